// SPDX-License-Identifier: Apache-2.0

package import VUSBCore

/// What can be done in a guest's kernel and beside it: on this host itself, or through an agent in a VM.
///
/// Everything above it (finding the right build of a module, mounting, loading, finding users) is `ModuleLoader`'s, so
/// that a new way into a guest has only this to offer. Calls may take long; a cancelled task ends them with
/// `cancelled`.
package protocol GuestKernel: Sendable {
    /// For messages: `the host`, or `guest web1`.
    var description: String { get }

    /// Runs a program and waits for its end.
    /// - Parameters:
    ///   - program: an absolute path in the guest.
    ///   - limit: how long it may take.
    /// - Throws: `unsupported` where the guest doesn't allow it, `notFound` where there is no such program, `timedOut`.
    func run(_ program: String, _ arguments: [String], limit: Duration) async throws(USBError) -> ProgramResult

    /// The content of a file of the guest, at most `limit` bytes.
    /// - Throws: `notFound` where there is none.
    func readFile(_ path: String, limit: Int) async throws(USBError) -> [UInt8]

    /// Writes a file of the guest, anew. Whose it is and who may write to it isn't said: what matters belongs into a
    /// directory that is root's own.
    /// - Parameter progress: told the bytes that have been written so far.
    func writeFile(_ path: String, _ bytes: [UInt8], progress: @Sendable (Int) -> Void) async throws(USBError)

    /// Loads a module into the kernel.
    /// - Parameters:
    ///   - module: its name, such as `vusb_hcd`.
    ///   - image: the bytes of a `.ko`; its vermagic was compared already.
    ///   - progress: told the bytes that have been copied.
    /// - Throws: what the guest's kernel said.
    func insmod(
        _ module: String, image: [UInt8], parameters: String, progress: @Sendable (Int) -> Void
    ) async throws(USBError)

    /// Unloads a module.
    /// - Throws: `busy` where it is in use, `notFound` where it isn't loaded.
    func rmmod(_ module: String) async throws(USBError)
}

extension GuestKernel {
    package func writeFile(
        _ path: String, _ bytes: [UInt8], progress: @Sendable (Int) -> Void
    ) async throws(USBError) {
        throw USBError(.unsupported, "no files can be written to \(description)")
    }
}

/// How a program in a guest ended.
package struct ProgramResult: Sendable, Equatable {
    package enum End: Sendable, Equatable {
        case exited(Int)
        case signalled(Int)
    }

    package var end: End
    package var output: [UInt8]
    package var errors: [UInt8]

    package init(end: End, output: [UInt8] = [], errors: [UInt8] = []) {
        self.end = end
        self.output = output
        self.errors = errors
    }

    package var succeeded: Bool { end == .exited(0) }
}
