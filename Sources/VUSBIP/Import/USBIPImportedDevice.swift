// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VUSBCore

/// An imported device that somebody has open.
///
/// Concurrency model: any thread. The session is in one `Mutex`, a leaf; a reset may change it for another.
final class USBIPImportedDevice: USBBackend {
    private let owner: USBIPImport
    private let session: Mutex<USBIPImportSession>
    private let patience: USBIPImportPatience

    init(_ owner: USBIPImport, _ session: USBIPImportSession, _ patience: USBIPImportPatience) {
        self.owner = owner
        self.session = Mutex(session)
        self.patience = patience
    }

    private var current: USBIPImportSession { session.withLock { $0 } }

    func submit(_ urb: consuming URB) { current.submit(urb) }
    func cancel(_ token: URBToken) { current.cancel(token) }

    /// By the server, or by a new connection.
    func reset() async throws(USBError) {
        let before = current
        await before.rest(.shutdown)
        let settings = before.settings
        do throws(USBError) {
            let answer = try await before.control(.portReset(), within: patience.reset)
            guard answer.status == .success else { return try await renew(settings) }
            try await finishReset(before, settings)
        } catch {
            throw USBError(.gone, error.message)
        }
    }

    private func renew(_ settings: ActiveSettings) async throws(USBError) {
        let renewed = try await owner.renew()
        session.withLock { $0 = renewed }
        try await finishReset(renewed, settings)
    }

    /// V12 of Imports.md.
    private func finishReset(_ session: USBIPImportSession, _ settings: ActiveSettings) async throws(USBError) {
        do throws(USBError) {
            let reader = USBIPDescriptorReader(session: session, limit: patience.control)
            guard try await reader.descriptors().bytes == session.descriptors.bytes else {
                throw USBError(.gone, "it's another device after its reset")
            }
            try await session.apply(settings, within: patience.control)
            session.resume()
        } catch {
            session.cut(error)
            throw error
        }
    }

    func close() async {
        let session = current
        await session.rest(.cancelled)
        session.resume()
        owner.release(self)
    }
}
