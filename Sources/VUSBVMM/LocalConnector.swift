// SPDX-License-Identifier: Apache-2.0

internal import Dispatch
package import Logging
internal import Synchronization
package import VUSBCore

/// Guests that are processes or containers on this host. They see their directory under /vusb; their kernel is the
/// host's. A guest that is bound to a process goes off when that process ends.
///
/// Concurrency model: any thread. The bound guests are in one `Mutex`, held across no call out; ends of processes
/// arrive on a serial queue and are put into the stream. Lock order: none, it is a leaf.
package final class LocalConnector: VMMConnector {
    package let name = "local"
    package let modes: [GuestMode] = [.files, .module, .usbip]

    private struct Binding {
        let process: GuestProcess?
        let watch: ProcessWatch?
    }

    private let bindings = Mutex<[String: Binding]>([:])
    private let queue = DispatchQueue(label: "vusb.local-connector")
    private let stream: AsyncStream<VMMEvent>
    private let continuation: AsyncStream<VMMEvent>.Continuation
    private let logger: Logger

    package init(logger: Logger) {
        self.logger = logger
        (stream, continuation) = AsyncStream.makeStream(of: VMMEvent.self)
    }

    package func guests() async throws(USBError) -> [VMMGuest] {
        let bound = bindings.withLock { $0.mapValues(\.process) }
        return bound.sorted { $0.key < $1.key }.map { name, process in
            VMMGuest(name: name, state: process?.state ?? .unknown, process: process)
        }
    }

    package func bind(_ guest: String, _ place: GuestPlace, waits: Bool = false) async throws(USBError) {
        guard place.monitorSocket == nil, place.agentSocket == nil else {
            throw USBError(
                .invalid,
                "guest \(guest) has the socket of a monitor or an agent, which connector local has no use for",
                remedy: "declare it with connector: qemu, or without its sockets"
            )
        }
        let process = place.process
        var watch: ProcessWatch?
        if let process {
            watch = try ProcessWatch(process, queue: queue) { [weak self] in self?.ended(process, of: guest) }
        }
        let binding = Binding(process: process, watch: watch)
        let isNew = bindings.withLock { bindings in
            guard bindings[guest] == nil else { return false }
            bindings[guest] = binding
            return true
        }
        guard isNew else {
            watch?.cancel()
            throw USBError(.busy, "guest \(guest) is bound already", remedy: "unload it first")
        }
        // It may have ended between the watch and the entry above, when `ended` found nothing to tell.
        if let process, process.state == .off { ended(process, of: guest) }
    }

    package func unbind(_ guest: String) async {
        bindings.withLock { $0.removeValue(forKey: guest) }?.watch?.cancel()
    }

    package func events() -> AsyncStream<VMMEvent> { stream }

    package func stop() async {
        let watches = bindings.withLock { bindings in
            defer { bindings.removeAll() }
            return bindings.values.compactMap(\.watch)
        }
        for watch in watches { watch.cancel() }
        continuation.finish()
    }

    package func kernel(of guest: String) async throws(USBError) -> any GuestKernel {
        guard bindings.withLock({ $0[guest] != nil }) else {
            throw USBError(.notFound, "guest \(guest) isn't bound", remedy: "load it first")
        }
        return LocalKernel()
    }

    /// Told once: whoever takes the process out of the binding tells it.
    private func ended(_ process: GuestProcess, of guest: String) {
        let watch = bindings.withLock { bindings -> ProcessWatch? in
            guard let binding = bindings[guest], binding.process == process, binding.watch != nil else { return nil }
            bindings[guest] = Binding(process: process, watch: nil)
            return binding.watch
        }
        guard let watch else { return }
        watch.cancel()
        logger.info("process of guest ended", metadata: ["guest": "\(guest)", "pid": "\(process.pid)"])
        continuation.yield(VMMEvent(guest: guest, kind: .off, detail: "process \(process.pid) ended"))
    }
}
