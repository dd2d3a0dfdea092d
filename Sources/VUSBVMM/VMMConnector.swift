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

    /// The guest's USB controllers, by kind and name; `hotplug` chooses among them.
    /// - Throws: `gone` where the guest is off, `timedOut`.
    func controllers(of guest: String) async throws(USBError) -> [GuestController]

    /// Plugs a device into a free port of the controller that suits it best; returns where. Bounded in time.
    /// - Parameter socketPath: where the device is served; it listens already, since the guest's monitor connects at once.
    /// - Throws: `unsupported` where the guest has no controller for such a device, `busy` where all ports are taken or
    ///   the port is plugged already, `gone` where the guest is off, `timedOut`, `cancelled`. Nothing stays behind.
    func hotplug(
        _ guest: String, port: ControllerPort, wish: PlugWish, socketPath: String
    ) async throws(USBError) -> PluggedPort

    /// Returns once the guest's monitor has answered a question that changes nothing: what it's asked to do next it does
    /// now, and not some time later.
    /// - Throws: `timedOut`, `cancelled`; `gone` where the guest is off or its monitor is lost.
    func checkAnswers(_ guest: String, within limit: Duration) async throws(USBError)

    /// That the guest has no USB controller, with what to do about it.
    func missingController(of guest: String) -> USBError

    /// Returns once the guest has let go of the port. One that isn't there is no error.
    /// - Parameter limit: how long it may take in all.
    /// - Throws: `timedOut`, `cancelled`; `gone`, at once, where the guest is off or its monitor is lost.
    func hotunplug(_ guest: String, port: ControllerPort, within limit: Duration) async throws(USBError)

    /// Takes away what an earlier vusbd plugged, and what of this one's is named so.
    /// - Parameter prefix: of the ports' names.
    /// - Returns: how many there were.
    func unplugLeftovers(of guest: String, named prefix: String) async throws(USBError) -> Int
}

extension VMMConnector {
    package func fault(of guest: String) async -> USBError? { nil }

    package func kernel(of guest: String) async throws(USBError) -> any GuestKernel {
        throw unsupported("kernel", guest)
    }

    package func controllers(of guest: String) async throws(USBError) -> [GuestController] {
        throw unsupported("controllers", guest)
    }

    package func hotplug(
        _ guest: String, port: ControllerPort, wish: PlugWish, socketPath: String
    ) async throws(USBError) -> PluggedPort {
        throw unsupported("hotplug", guest)
    }

    package func checkAnswers(_ guest: String, within limit: Duration) async throws(USBError) {
        throw unsupported("checkAnswers", guest)
    }

    package func missingController(of guest: String) -> USBError {
        USBError(.unsupported, "guest \(guest) has no USB controller", remedy: "give it one")
    }

    package func hotunplug(_ guest: String, port: ControllerPort, within limit: Duration) async throws(USBError) {
        throw unsupported("hotunplug", guest)
    }

    package func unplugLeftovers(of guest: String, named prefix: String) async throws(USBError) -> Int {
        throw unsupported("unplugLeftovers", guest)
    }

    private func unsupported(_ operation: String, _ guest: String) -> USBError {
        USBError(
            .unsupported,
            "connector \(name) has no \(operation) for guest \(guest)",
            remedy: "load the guest in a mode that doesn't need it: \(modes.map(\.rawValue).joined(separator: ", "))"
        )
    }
}
