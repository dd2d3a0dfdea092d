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
        var context: HostContext?
        var hotplug: HostHotplug?
        var continuation: AsyncStream<DeviceEvent>.Continuation?
        var isStopped = false
    }

    package var name: String { SysfsEnumerator.sourceName }
    private let paths: HostPaths
    private let logger: Logger
    private let budget: HostMemoryBudget
    private let state = Mutex(State())
    private static let unlimitedMemory = 64 << 20

    package init(paths: HostPaths = HostPaths(), logger: Logger) {
        self.paths = paths
        self.logger = logger
        let limit = HostMemoryBudget.kernelLimit(paths) ?? 0
        // Half for mapped buffers; the other half is for the kernel's own copies, and other programs. 0 is no limit.
        budget = HostMemoryBudget(limit: (limit == 0 ? Self.unlimitedMemory : limit) / 2)
    }

    /// - Throws: `io` where libusb can't begin. A host without USB isn't an error: no device arrives.
    package func start() throws(USBError) -> AsyncStream<DeviceEvent> {
        let context = try HostContext(logger: logger)
        let (stream, continuation) = AsyncStream<DeviceEvent>.makeStream()
        let watcher = HostWatcher(paths: paths, logger: logger) { continuation.yield($0) }
        let hotplug = listen(watcher)
        state.withLock { state in
            state.context = context
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

    package func open(_ record: DeviceRecord) async throws(USBError) -> OpenedDevice {
        guard let context = state.withLock({ $0.isStopped ? nil : $0.context }) else {
            throw USBError(.unsupported, "the source of the host's devices isn't running")
        }
        let thread = try SerialThread(name: "vusb-\(record.id)")
        let opener = HostOpener(paths: paths, context: context, budget: budget, logger: logger)
        let result: Result<OpenedDevice, USBError>? = await thread.run {
            do throws(USBError) {
                return .success(try opener.open(record, on: thread))
            } catch {
                return .failure(error)
            }
        }
        switch result {
        case .success(let device): return device
        case .failure(let error):
            thread.stop()
            throw error
        case nil: throw USBError(.gone, "device \(record.id) is closed")
        }
    }

    package func stop() async {
        let ended = state.withLock { state in
            defer { state = State(isStopped: true) }
            return state
        }
        await ended.hotplug?.stop()
        ended.continuation?.finish()
    }
}
