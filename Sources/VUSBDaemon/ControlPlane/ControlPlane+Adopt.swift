// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl
internal import VUSBCore
internal import VUSBVMM

/// A guest that is loaded becomes a process: a container, which had to be shown the guest's directory before it had one.
/// Its devices stay as they are.
extension ControlPlane {
    func adopt(_ pid: Int, as name: String) throws(Problem) -> OperationInfo {
        let process = try Self.process(pid, of: name)
        if let present = guestRegistry[name]?.process, present.pid != process.pid, present.state != .off {
            throw Problem(
                .conflict, "guest \(name) is process \(present.pid) already, which runs",
                remedy: "end that, or unload the guest first")
        }
        let operation = begin(.load, guest: name, device: nil)
        operationLog.setCancellable(operation, false)
        // From here on others keep off the guest.
        setState(.loading(operation: operation), of: name)
        return run(operation) { (plane, operation) async throws(Problem) in
            try await plane.rebind(name, to: process, operation: operation)
            return nil
        }
    }

    /// Should the process end meanwhile, `lose` waits for the operation's end, and the guest is unloaded.
    private func rebind(_ name: String, to process: GuestProcess, operation: Int) async throws(Problem) {
        guard let guest = guestRegistry[name], let connector = connectors[guest.definition.connector] else {
            throw Problem(.notFound, "no guest \(name)")
        }
        await connector.unbind(name)
        var problem: Problem?
        do {
            try await connector.bind(name, guest.definition.place(process: process), waits: false)
            change(name) { guest in
                guest.process = process
                guest.silentSince = nil
                guest.heartbeatSince = .now
            }
            operationLog.step(operation, "bound to process \(process.pid)")
            prepareTelling(name, operation: operation)
        } catch {
            problem = Problem(error, while: "load of guest \(name)")
            await bindAgain(name, guest, connector)
        }
        setState(.loaded, of: name)
        offerAll(to: name)
        await persist()
        if let problem { throw problem }
    }

    /// As it was; a guest whose own process has ended meanwhile is lost, as nobody watched that.
    private func bindAgain(_ name: String, _ guest: GuestEntry, _ connector: any VMMConnector) async {
        do {
            try await connector.bind(name, guest.definition.place(process: guest.process), waits: false)
        } catch {
            lose(guest)
        }
    }
}
