// SPDX-License-Identifier: Apache-2.0

import CLibUSB
import Logging
import Synchronization
import VUSBCore

/// A libusb context that finds no devices by itself, and the thread that handles its events: one for each open device.
///
/// libusb calls back with a lock of the whole context held (`open_devs_lock`), and its event loop asks the kernel for
/// what has ended under the kernel's lock of the device. In a context of several devices one that hangs, or whose
/// completions do, would hold up all of them, and those that are opened and closed meanwhile.
///
/// Concurrency model: libusb locks what is in the context. Whoever opens a device, and then its handle, keep a
/// reference; the last one to go, on whatever thread, tells the event thread to end, and that one frees the context: so
/// it may even go in a completion callback.
@safe
final class HostContext: @unchecked Sendable {
    // SAFETY: libusb may be called from any thread; the event thread frees it only after deinit.
    let raw: OpaquePointer
    private let events: HostEventThread

    /// - Parameter name: of the thread; 15 bytes of it are shown.
    /// - Throws: `io` where libusb can't begin, or no thread or descriptor is left.
    init(name: String, logger: Logger) throws(USBError) {
        let context = unsafe try Self.begin()
        unsafe raw = context
        do {
            unsafe events = try HostEventThread(handling: context, name: name, logger: logger)
        } catch {
            unsafe libusb_exit(context)
            throw error
        }
    }

    deinit { events.stop() }

    /// - Throws: `io` where libusb can't begin: to know it before the first device comes.
    static func check() throws(USBError) {
        let context = unsafe try begin()
        unsafe libusb_exit(context)
    }

    private static func begin() throws(USBError) -> OpaquePointer {
        let option = CLibUSB_disable_discovery()
        guard option == 0 else { throw LibUSBCode.error(option, "libusb can't be told not to look for devices") }
        var context: OpaquePointer?
        let code = unsafe libusb_init(&context)
        guard code == 0, let context = unsafe context else { throw LibUSBCode.error(code, "libusb doesn't start") }
        return unsafe context
    }

    /// For tests: returns when the event thread has freed the context.
    var thread: HostEventThread { events }
}
