// SPDX-License-Identifier: Apache-2.0

package import Logging
import Synchronization
package import VUSBCore

/// The source of the host's own devices, through libusb.
///
/// Concurrency model: `start` and `stop` are called once each; `open` at any time between, by any task. What they
/// share is in one `Mutex`, held across no call.
package final class HostSource: DeviceSource {
    private struct State {
        var isRunning = false
        var hotplug: HostHotplug?
        var continuation: AsyncStream<DeviceEvent>.Continuation?
    }

    package var name: String { SysfsEnumerator.sourceName }
    private let paths: HostPaths
    private let logger: Logger
    private let budget: HostMemoryBudget
    /// How long a device may take to be opened: the kernel gives it some tries of 5 seconds each.
    private let openLimit: Duration
    private let state = Mutex(State())
    private static let unlimitedMemory = 64 << 20

    package init(paths: HostPaths = HostPaths(), openLimit: Duration = .seconds(60), logger: Logger) {
        self.paths = paths
        self.logger = logger
        self.openLimit = openLimit
        let limit = HostMemoryBudget.kernelLimit(paths) ?? 0
        // Half for mapped buffers; the other half is for the kernel's own copies, and other programs. 0 is no limit.
        budget = HostMemoryBudget(limit: (limit == 0 ? Self.unlimitedMemory : limit) / 2)
    }

    /// - Throws: `io` where libusb can't begin. A host without USB isn't an error: no device arrives.
    package func start() throws(USBError) -> AsyncStream<DeviceEvent> {
        try HostContext.check()
        let (stream, continuation) = AsyncStream<DeviceEvent>.makeStream()
        let watcher = HostWatcher(paths: paths, logger: logger) { continuation.yield($0) }
        let hotplug = listen(watcher)
        state.withLock { state in
            state.isRunning = true
            state.hotplug = hotplug
            state.continuation = continuation
        }
        return stream
    }

    /// Nil where the kernel can't be listened to: then there is what is there now.
    private func listen(_ watcher: HostWatcher) -> HostHotplug? {
        do {
            return try HostHotplug { watcher.handle($0) }
        } catch {
            logger.warning("devices plugged in from now on won't be seen: \(error)")
            watcher.scan()
            return nil
        }
    }

    package func open(_ record: DeviceRecord, isForced: Bool) async throws(USBError) -> OpenedDevice {
        guard state.withLock({ $0.isRunning }) else {
            throw USBError(.unsupported, "the source of the host's devices isn't running")
        }
        let thread = try SerialThread(name: "vusb-\(record.id)")
        let opener = HostOpener(paths: paths, budget: budget, logger: logger)
        let opening = HostOpening()
        let outcome = await thread.run(within: openLimit) {
            do throws(USBError) {
                opening.succeeded(try opener.open(record, isForced: isForced, on: thread))
                return nil as USBError?
            } catch {
                return error
            }
        }
        if case .returned(nil) = outcome, let device = opening.take() { return device }
        // Behind the opening, where that is under way yet: what it opens is given back.
        thread.enqueue {
            guard let late = opening.take() else { return thread.stop() }
            Task { await late.backend.close() }
        }
        guard case .returned(let error?) = outcome else {
            throw USBError(
                .timedOut, "device \(record.id) is held up inside the kernel: it isn't open after \(openLimit)",
                remedy: "unplug it")
        }
        throw error
    }

    package func stop() async {
        let ended = state.withLock { state in
            defer { state = State() }
            return state
        }
        await ended.hotplug?.stop()
        ended.continuation?.finish()
    }
}

/// What an opening has come to, for whoever takes it first.
private final class HostOpening: Sendable {
    private let device = Mutex<OpenedDevice?>(nil)

    func succeeded(_ opened: OpenedDevice) { device.withLock { $0 = opened } }

    func take() -> OpenedDevice? { device.withLock { $0.take() } }
}
