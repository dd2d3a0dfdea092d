// SPDX-License-Identifier: Apache-2.0

import CLibUSB
import Glibc
import Logging
import Synchronization
import VUSBCore

/// The thread that runs the event loop of one libusb context, and so every completion callback of its device.
///
/// Concurrency model: `stop` is called once, by whoever ends the context, perhaps on this very thread. The thread sees
/// the flag, waits until `stop` has made its last call into libusb, and frees the context.
final class HostEventThread: Sendable {
    @safe
    private final class Shared: @unchecked Sendable {
        // SAFETY: valid until the event thread frees it, which `mayExit` puts behind the last call of `stop`.
        let context: OpaquePointer
        let isStopping = Atomic<Bool>(false)
        let mayExit = Semaphore()
        let logger: Logger

        init(_ context: OpaquePointer, _ logger: Logger) {
            unsafe self.context = context
            self.logger = logger
        }

        func run() {
            RealTime.enter()
            let pass = CompletionPass()
            while !isStopping.load(ordering: .acquiring) {
                var limit = timeval(tv_sec: 60, tv_usec: 0)
                let code = pass.run { unsafe libusb_handle_events_timeout_completed(context, &limit, nil) }
                guard code != 0, code != LIBUSB_ERROR_INTERRUPTED.rawValue else { continue }
                logger.error("libusb can't handle events: \(LibUSBCode.name(code))")
                // Not to spin on an error that stays.
                usleep(100_000)
            }
            mayExit.wait()
            unsafe libusb_exit(context)
        }
    }

    private let shared: Shared
    private let thread: HostThread

    init(handling context: OpaquePointer, name: String, logger: Logger) throws(USBError) {
        let shared = unsafe Shared(context, logger)
        self.shared = shared
        thread = try HostThread(name: name) { shared.run() }
    }

    /// The loop ends soon, and the context is freed.
    func stop() {
        shared.isStopping.store(true, ordering: .releasing)
        unsafe libusb_interrupt_event_handler(shared.context)
        shared.mayExit.post()
    }

    /// Returns when it has ended.
    func end() async { await thread.end() }
}
