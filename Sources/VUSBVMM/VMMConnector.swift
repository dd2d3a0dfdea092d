// SPDX-License-Identifier: Apache-2.0

package import VUSBCore

/// How vusbd speaks to whatever runs a guest. One connector a kind of monitor; VMMConnector.md says how to write one.
///
/// What a connector can't do it leaves to the defaults below, which throw `unsupported` and name connector and
/// operation: a caller never asks what kind of connector it has.
package protocol VMMConnector: Sendable {
    /// As in a guest's declaration: `local`, `qemu` ...
    var name: String { get }

    /// The modes that it can load a guest in, the best first.
    var modes: [GuestMode] { get }

    /// The guests that are bound, in the order of their names.
    func guests() async throws(USBError) -> [VMMGuest]

    /// Begins to watch a guest, before it's loaded. One that is off now is watched for its return.
    /// - Parameter waits: one whose monitor can't be spoken to is watched as well: it may be busy now.
    /// - Throws: `notFound` where there is no such guest, `busy` where it's bound already.
    func bind(_ guest: String, _ place: GuestPlace, waits: Bool) async throws(USBError)

    /// Why a bound guest's monitor can't be spoken to now; nil where it can, or where nothing is known.
    func fault(of guest: String) async -> USBError?

    /// Ends the watch. A guest that isn't bound is no error: it may just have gone off.
    func unbind(_ guest: String) async

    /// What happens to bound guests, in order, for all of them. Called once; the stream ends with `stop`.
    func events() -> AsyncStream<VMMEvent>

    /// Ends the watch of all guests.
    func stop() async

    /// The way into a bound guest's kernel.
    /// - Throws: `unsupported` where there is none, with what to set up in the remedy.
    func kernel(of guest: String) async throws(USBError) -> any GuestKernel

    /// Plugs a port of an emulated controller into the guest, served at the socket.
    func hotplug(_ guest: String, port: ControllerPort, socketPath: String) async throws(USBError)

    /// Returns once the guest has let go of the port.
    func hotunplug(_ guest: String, port: ControllerPort) async throws(USBError)
}

extension VMMConnector {
    package func fault(of guest: String) async -> USBError? { nil }

    package func kernel(of guest: String) async throws(USBError) -> any GuestKernel {
        throw unsupported("kernel", guest)
    }

    package func hotplug(_ guest: String, port: ControllerPort, socketPath: String) async throws(USBError) {
        throw unsupported("hotplug", guest)
    }

    package func hotunplug(_ guest: String, port: ControllerPort) async throws(USBError) {
        throw unsupported("hotunplug", guest)
    }

    private func unsupported(_ operation: String, _ guest: String) -> USBError {
        USBError(
            .unsupported,
            "connector \(name) has no \(operation) for guest \(guest)",
            remedy: "load the guest in a mode that doesn't need it: \(modes.map(\.rawValue).joined(separator: ", "))"
        )
    }
}
