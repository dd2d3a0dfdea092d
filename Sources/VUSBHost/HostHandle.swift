// SPDX-License-Identifier: Apache-2.0

import CLibUSB
import VUSBCore

/// What is done to an open device besides transfers. Every call may block for seconds; most return 0 or a code of
/// libusb. Tests have a port of their own.
protocol HandlePort: AnyObject, Sendable {
    /// Takes the interface, from the kernel's driver too.
    func claim(_ interface: UInt8) -> Int32
    /// The kernel's driver doesn't get it by this.
    func release(_ interface: UInt8) -> Int32
    /// Lets the kernel look for a driver.
    func attachDriver(_ interface: UInt8) -> Int32
    /// -1 unconfigures the device.
    func setConfiguration(_ value: Int32) -> Int32
    func setAlternate(_ interface: UInt8, _ alternate: UInt8) -> Int32
    func clearHalt(_ endpoint: UInt8) -> Int32
    func reset() -> Int32
    /// GET_DESCRIPTOR, from the device itself; nil where it doesn't answer soon.
    func descriptor(_ type: UInt8, _ index: UInt8, length: UInt16) -> [UInt8]?
    /// The number of streams had, or a code. Ends what is in flight at the endpoints' interface.
    func allocateStreams(_ count: UInt32, _ endpoints: [UInt8]) -> Int32
}

/// An opened usbfs node and libusb's handle on it. Both are closed when the last reference goes: the device's, its
/// transfers', and that of buffers in the device's memory.
@safe
final class HostHandle: HandlePort, @unchecked Sendable {
    // SAFETY: libusb's functions on a handle may be called from any thread.
    let raw: OpaquePointer
    private let descriptor: OwnedDescriptor
    private let context: HostContext
    private static let answerMilliseconds: UInt32 = 500

    /// - Parameter descriptor: a usbfs node, open for reading and writing.
    init(wrapping descriptor: consuming OwnedDescriptor, in context: HostContext, name: String) throws(USBError) {
        var handle: OpaquePointer?
        let code = unsafe libusb_wrap_sys_device(context.raw, Int(descriptor.rawValue), &handle)
        guard code == 0, let handle = unsafe handle else {
            throw LibUSBCode.error(code, "\(name) can't be opened by libusb")
        }
        unsafe raw = handle
        self.descriptor = descriptor
        self.context = context
    }

    deinit {
        // SAFETY: the transfers are gone, each held a reference.
        unsafe libusb_close(raw)
    }

    /// With libusb's own detachment, which is one step in the kernel: no driver gets in between.
    func claim(_ interface: UInt8) -> Int32 {
        unsafe libusb_set_auto_detach_kernel_driver(raw, 1)
        return unsafe libusb_claim_interface(raw, Int32(interface))
    }

    func release(_ interface: UInt8) -> Int32 {
        unsafe libusb_set_auto_detach_kernel_driver(raw, 0)
        return unsafe libusb_release_interface(raw, Int32(interface))
    }

    func attachDriver(_ interface: UInt8) -> Int32 { unsafe libusb_attach_kernel_driver(raw, Int32(interface)) }

    func setConfiguration(_ value: Int32) -> Int32 { unsafe libusb_set_configuration(raw, value) }

    func setAlternate(_ interface: UInt8, _ alternate: UInt8) -> Int32 {
        unsafe libusb_set_interface_alt_setting(raw, Int32(interface), Int32(alternate))
    }

    func clearHalt(_ endpoint: UInt8) -> Int32 { unsafe libusb_clear_halt(raw, endpoint) }

    func reset() -> Int32 { unsafe libusb_reset_device(raw) }

    func descriptor(_ type: UInt8, _ index: UInt8, length: UInt16) -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: Int(length))
        // SAFETY: the array has `length` bytes, for the duration of the call.
        let count = unsafe bytes.withUnsafeMutableBufferPointer { buffer in
            unsafe libusb_control_transfer(
                raw,
                0x80,
                StandardRequest.getDescriptor,
                UInt16(type) << 8 | UInt16(index),
                0,
                buffer.baseAddress,
                length,
                Self.answerMilliseconds
            )
        }
        return count < 0 ? nil : Array(bytes[..<Int(count)])
    }

    func allocateStreams(_ count: UInt32, _ endpoints: [UInt8]) -> Int32 {
        var endpoints = endpoints
        return unsafe libusb_alloc_streams(raw, count, &endpoints, Int32(endpoints.count))
    }
}
