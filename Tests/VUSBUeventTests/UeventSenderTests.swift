// SPDX-License-Identifier: Apache-2.0

import CVUSBShims
import Glibc
import Testing
import VUSBCore

@testable import VUSBUevent

/// With the kernel's own sockets, in a network namespace that is made for it and that nobody else is in.
@Suite("Sending", .enabled(if: geteuid() == 0, "needs root: it makes a network namespace"))
struct UeventSenderTests {
    private static let event = Uevent(
        .add, devicePath: "/bus/usb/vusb/usb1/1-1", subsystem: "usb", properties: [.init("DEVTYPE", "usb_device")])

    private final class Heard {
        var messages: [(group: UInt32, port: UInt32, bytes: [UInt8])] = []
        var failure: String?
    }

    /// Functions that Swift's Glibc module leaves out.
    private static func newNetwork() -> Int32 {
        typealias Unshare = @convention(c) (Int32) -> Int32
        guard let symbol = unsafe dlsym(nil, "unshare") else { return -1 }
        return unsafe unsafeBitCast(symbol, to: Unshare.self)(0x4000_0000)  // CLONE_NEWNET
    }

    private static func threadID() -> Int {
        typealias GetTID = @convention(c) () -> Int32
        guard let symbol = unsafe dlsym(nil, "gettid") else { return -1 }
        return unsafe Int(unsafeBitCast(symbol, to: GetTID.self)())
    }

    private static func listen(_ groups: UInt32) -> Int32 {
        let descriptor = socket(AF_NETLINK, Int32(SOCK_RAW.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 15)
        var own = sockaddr_nl()
        own.nl_family = sa_family_t(AF_NETLINK)
        own.nl_groups = groups
        let size = socklen_t(MemoryLayout<sockaddr_nl>.size)
        let result = unsafe withUnsafePointer(to: &own) {
            unsafe bind(descriptor, UnsafeRawPointer($0).assumingMemoryBound(to: sockaddr.self), size)
        }
        var patience = timeval(tv_sec: 20, tv_usec: 0)
        unsafe setsockopt(
            descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
        return result == 0 ? descriptor : -1
    }

    private static func hear(_ descriptor: Int32) -> (group: UInt32, port: UInt32, bytes: [UInt8])? {
        var bytes = [UInt8](repeating: 0, count: 8192)
        var from = sockaddr_nl()
        var size = socklen_t(MemoryLayout<sockaddr_nl>.size)
        let count = unsafe withUnsafeMutablePointer(to: &from) {
            unsafe recvfrom(
                descriptor, &bytes, bytes.count, 0,
                UnsafeMutableRawPointer($0).assumingMemoryBound(to: sockaddr.self), &size)
        }
        return count < 0 ? nil : (from.nl_groups, from.nl_pid, Array(bytes.prefix(count)))
    }

    @Test("both groups hear of it: the first from the kernel, with its number behind, the second as from udevd")
    func bothGroups() throws {
        let heard = Heard()
        let result = NamespaceThread.run {
            guard Self.newNetwork() == 0 else { return 1 }
            let descriptor = Self.listen(3)
            defer { close(descriptor) }
            do {
                try UeventSender(namespaceOf: Self.threadID()).send([Self.event])
            } catch {
                heard.failure = "\(error)"
                return 2
            }
            for _ in 0..<2 { Self.hear(descriptor).map { heard.messages.append($0) } }
            return 0
        }
        #expect(result == 0, "\(heard.failure ?? "no namespace")")
        try #require(heard.messages.count == 2)
        let kernel = heard.messages[0]
        #expect(kernel.group == 1 && kernel.port == 0)
        #expect(Array(kernel.bytes.prefix(Self.event.kernelBytes.count)) == Self.event.kernelBytes)
        let rest = String(decoding: kernel.bytes.dropFirst(Self.event.kernelBytes.count), as: UTF8.self)
        #expect(rest.hasPrefix("SEQNUM=") && rest.hasSuffix("\0"))
        let udev = heard.messages[1]
        #expect(udev.group == 2 && udev.port != 0)
        #expect(Array(udev.bytes.prefix(8)) == Array("libudev\0".utf8))
        let text = String(decoding: udev.bytes.dropFirst(40), as: UTF8.self)
        #expect(text.hasPrefix("ACTION=add\0DEVPATH=/bus/usb/vusb/usb1/1-1\0"))
    }

    @Test("it's no failure that nobody listens, and the namespace outlives its last process while there is a sender")
    func nobodyListens() throws {
        let result = NamespaceThread.run {
            guard Self.newNetwork() == 0 else { return 1 }
            do {
                try UeventSender(namespaceOf: Self.threadID()).send([Self.event, Self.event])
                return 0
            } catch { return 2 }
        }
        #expect(result == 0)
    }

    @Test("a message that the kernel wouldn't take is refused, and so is a process that isn't there")
    func refused() throws {
        let long = Uevent(
            .add, devicePath: "/" + String(repeating: "x", count: 2048), subsystem: "usb", properties: [])
        let result = NamespaceThread.run {
            guard Self.newNetwork() == 0 else { return 1 }
            do {
                try UeventSender(namespaceOf: Self.threadID()).send([long])
                return 2
            } catch { return (error as? USBError)?.code == .invalid ? 0 : 3 }
        }
        #expect(result == 0)
        #expect(throws: USBError.self) { try UeventSender(namespaceOf: 1 << 30) }
    }
}
