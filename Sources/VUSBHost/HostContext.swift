// SPDX-License-Identifier: Apache-2.0

import CLibUSB
import Logging
import Synchronization
import VUSBCore

/// A libusb context that finds no devices by itself, and the thread that handles its events.
///
/// Concurrency model: libusb locks what is in the context. The source and every open handle keep a reference; the
/// last one to go, on whatever thread, tells the event thread to end, and that one frees the context: so it may even
/// go in a completion callback.
@safe
final class HostContext: @unchecked Sendable {
    // SAFETY: libusb may be called from any thread; the event thread frees it only after deinit.
    let raw: OpaquePointer
    private let events: HostEventThread

    /// - Throws: `io` where libusb can't begin.
    init(logger: Logger) throws(USBError) {
        let option = CLibUSB_disable_discovery()
        guard option == 0 else { throw LibUSBCode.error(option, "libusb can't be told not to look for devices") }
        var context: OpaquePointer?
        let code = unsafe libusb_init(&context)
        guard code == 0, let context = unsafe context else { throw LibUSBCode.error(code, "libusb doesn't start") }
        unsafe raw = context
        do {
            unsafe events = try HostEventThread(handling: context, logger: logger)
        } catch {
            unsafe libusb_exit(context)
            throw error
        }
    }

    deinit { events.stop() }

    /// For tests: returns when the event thread has freed the context.
    var thread: HostEventThread { events }
}
