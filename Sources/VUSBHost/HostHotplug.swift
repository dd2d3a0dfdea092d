// SPDX-License-Identifier: Apache-2.0

import CVUSBShims
import Glibc
import VUSBCore

/// Listens to the kernel's own messages about devices that come and go. It needs no udevd, and where there is one it
/// hears the same as that.
///
/// Concurrency model: the socket is read by one thread only, which calls `handler`. `stop` may be called from any
/// other; it writes to an eventfd that the thread polls.
final class HostHotplug: Sendable {
    enum Event: Sendable {
        /// The first one: from now on nothing is missed.
        case began
        case message(UeventMessage)
        /// The kernel had more to say than the socket holds: look for yourself.
        case overrun
    }

    /// The multicast group of the kernel's own messages; udevd's are in group 2.
    private static let kernelGroup: UInt32 = 1
    private static let receiveBuffer: Int32 = 1 << 20

    fileprivate struct Descriptors: ~Copyable, Sendable {
        let socket: OwnedDescriptor
        let stop: OwnedDescriptor
    }

    fileprivate final class Listener: Sendable {
        let descriptors: Descriptors
        init(_ descriptors: consuming Descriptors) { self.descriptors = descriptors }
    }

    private let listener: Listener
    private let thread: HostThread

    /// - Parameter handler: called on the listening thread, one message after the other, beginning at once.
    /// - Throws: `unsupported` where there is no such socket, as in most containers; `io`.
    init(handler: @escaping @Sendable (Event) -> Void) throws(USBError) {
        let listener: Listener
        do {
            let stop = eventfd(0, Int32(EFD_CLOEXEC))
            guard stop >= 0 else { throw SystemError.last }
            let owned = OwnedDescriptor(stop)
            listener = Listener(Descriptors(socket: try Self.openSocket(), stop: owned))
        } catch {
            throw USBError(.unsupported, "no messages about USB devices from the kernel: \(error)")
        }
        self.listener = listener
        thread = try HostThread(name: "vusb-hotplug") { listener.run(handler) }
    }

    /// The thread ends; no message is handled afterwards.
    func stop() async {
        var one: UInt64 = 1
        // SAFETY: eight bytes, as an eventfd wants. It can't fail: the counter is far from full.
        _ = unsafe write(listener.descriptors.stop.rawValue, &one, 8)
        await thread.end()
    }

    private static func openSocket() throws(SystemError) -> OwnedDescriptor {
        let type = Int32(SOCK_RAW.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
        let descriptor = socket(AF_NETLINK, type, NETLINK_KOBJECT_UEVENT)
        guard descriptor >= 0 else { throw .last }
        let owned = OwnedDescriptor(descriptor)
        var size = receiveBuffer
        // Best effort: a smaller buffer only means an overrun, and a new scan, sooner.
        unsafe setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &size, 4)
        var address = sockaddr_nl()
        address.nl_family = sa_family_t(AF_NETLINK)
        address.nl_groups = kernelGroup
        let code = unsafe withUnsafePointer(to: &address) { pointer in
            // SAFETY: bind reads as many bytes as the address has.
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_nl>.size))
            }
        }
        guard code == 0 else { throw .last }
        return owned
    }
}

extension HostHotplug.Listener {
    fileprivate func run(_ handler: (HostHotplug.Event) -> Void) {
        var buffer = [UInt8](repeating: 0, count: UeventMessage.maximumByteCount)
        handler(.began)
        while true {
            var watched = [
                pollfd(fd: descriptors.socket.rawValue, events: Int16(POLLIN), revents: 0),
                pollfd(fd: descriptors.stop.rawValue, events: Int16(POLLIN), revents: 0),
            ]
            let count = unsafe poll(&watched, 2, -1)
            if watched[1].revents != 0 { return }
            guard count > 0 else { continue }
            while let event = receive(&buffer) {
                if case .some(let event) = event { handler(event) }
            }
        }
    }

    /// Nil when there is nothing more to read; a nil inside for a message that isn't the kernel's.
    private func receive(_ buffer: inout [UInt8]) -> HostHotplug.Event?? {
        var sender = sockaddr_nl()
        var length = socklen_t(MemoryLayout<sockaddr_nl>.size)
        let count = unsafe buffer.withUnsafeMutableBytes { bytes in
            unsafe withUnsafeMutablePointer(to: &sender) { pointer in
                // SAFETY: recvfrom writes at most `length` bytes of the address and `bytes.count` of the message.
                unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    unsafe recvfrom(
                        descriptors.socket.rawValue,
                        bytes.baseAddress,
                        bytes.count,
                        Int32(MSG_TRUNC),
                        $0,
                        &length
                    )
                }
            }
        }
        if count < 0 { return Self.failure(errno) }
        // Another process may write to this socket too, if it is privileged; only the kernel has no number.
        guard sender.nl_pid == 0 else { return .some(nil) }
        guard count <= buffer.count else { return .overrun }
        return .some(UeventMessage(parsing: buffer.span.extracting(0..<count)).map { .message($0) })
    }

    private static func failure(_ code: Int32) -> HostHotplug.Event?? {
        switch code {
        case ENOBUFS: .overrun
        case EINTR: .some(nil)
        default: nil
        }
    }
}
