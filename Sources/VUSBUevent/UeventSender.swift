// SPDX-License-Identifier: Apache-2.0

internal import CVUSBShims
internal import Glibc
internal import Synchronization
package import VUSBCore

/// Says in a network namespace what comes and goes, to those who listen for the kernel (group 1) and to those who listen
/// for udevd (group 2), which a container hasn't got.
///
/// A socket belongs for ever to the namespace that it was made in. So a thread of its own goes there, makes one, and
/// ends; after that any thread sends by it, and the process that named the namespace may be gone.
///
/// Concurrency model: `send` may be called from any thread and waits for the kernel, which answers at once; one `Mutex`
/// keeps messages whole and in order. It is held across the two system calls of a message: they are all that it guards.
package final class UeventSender: Sendable {
    private struct Socket: ~Copyable {
        let descriptor: Int32
        deinit { close(descriptor) }
    }

    /// Who listens only believes root: that of the user namespace that it is in, by its number on the host.
    private let root: UInt32
    private let socket: Mutex<Socket>

    /// A message of the kernel's own can't be longer (include/linux/kobject.h, UEVENT_BUFFER_SIZE).
    static let byteLimit = 2048
    /// The kernel answers while it's being sent to; so long a wait means that there's something wrong.
    private static let answerMilliseconds: Int32 = 1000

    /// Whether the process is in the same network namespace as this one.
    /// - Throws: `gone` where there is no such process; `accessDenied`.
    package static func isOwnNetwork(of process: Int) throws(USBError) -> Bool {
        var (own, other) = (stat(), stat())
        guard unsafe stat("/proc/self/ns/net", &own) == 0, unsafe stat("/proc/\(process)/ns/net", &other) == 0 else {
            throw failure(errno, process, "find the network of")
        }
        return own.st_dev == other.st_dev && own.st_ino == other.st_ino
    }

    /// - Parameter process: any of those in the namespace.
    /// - Throws: `gone` where there is no such process; `accessDenied`; `unsupported` where the kernel has no such
    ///   sockets.
    package init(namespaceOf process: Int) throws(USBError) {
        root = UserMap.root(of: process)
        let namespace = unsafe open("/proc/\(process)/ns/net", O_RDONLY | O_CLOEXEC)
        guard namespace >= 0 else { throw Self.failure(errno, process, "find the network of") }
        defer { close(namespace) }
        let result = NamespaceThread.run { Self.openSocket(in: namespace) }
        guard result >= 0 else { throw Self.failure(-result, process, "enter the network of") }
        socket = Mutex(Socket(descriptor: result))
    }

    /// On a thread that ends afterwards.
    /// - Returns: a descriptor or a negative errno.
    private static func openSocket(in namespace: Int32) -> Int32 {
        let entered = CVUSBShims_enter_network(namespace)
        return entered < 0 ? entered : CVUSBShims_uevent_socket()
    }

    private static func failure(_ number: Int32, _ process: Int, _ what: String) -> USBError {
        let message = "can't \(what) process \(process): \(errorText(number))"
        return switch number {
        case ENOENT, ESRCH: USBError(.gone, message)
        case EACCES, EPERM: USBError(.accessDenied, message, remedy: "run vusbd as root (CAP_SYS_ADMIN)")
        case EPROTONOSUPPORT, EAFNOSUPPORT: USBError(.unsupported, message)
        default: USBError(.io, message)
        }
    }

    /// Sends all, in order, each to both groups.
    /// - Throws: `io` at the first that can't be sent; `unsupported` with a kernel before 4.18, which passes on no
    ///   messages but its own; `accessDenied`.
    package func send(_ events: [Uevent]) throws(USBError) {
        for event in events { try send(event) }
    }

    private func send(_ event: Uevent) throws(USBError) {
        let kernel = NetlinkMessage.request(event.kernelBytes)
        guard kernel.count <= Self.byteLimit else {
            throw USBError(.invalid, "message about \(event.devicePath) has \(kernel.count) bytes, too many")
        }
        let result = socket.withLock { socket -> Int32 in
            var result = post(socket.descriptor, group: 0, kernel)
            if result == 0 {
                result = CVUSBShims_uevent_answer(socket.descriptor, Self.answerMilliseconds)
            }
            // Before 4.18 it takes none.
            guard result == 0 else { return result == -ECONNREFUSED ? -EOPNOTSUPP : result }
            let udev = event.udevBytes(
                sequenceNumber: SequenceNumber.current(), microseconds: SequenceNumber.microseconds())
            return post(socket.descriptor, group: 2, udev)
        }
        guard result == 0 else {
            let code: USBError.Code = result == -EPERM ? .accessDenied : result == -EOPNOTSUPP ? .unsupported : .io
            throw USBError(code, "message about \(event.devicePath) not sent: \(errorText(-result))")
        }
    }

    private func post(_ descriptor: Int32, group: UInt32, _ bytes: [UInt8]) -> Int32 {
        // SAFETY: the array outlives the call, which only reads it.
        unsafe bytes.withUnsafeBytes { buffer in
            unsafe CVUSBShims_uevent_send(descriptor, group, root, buffer.baseAddress, UInt(buffer.count))
        }
    }
}

/// What the kernel takes from us to pass on to a namespace's listeners (lib/kobject_uevent.c, uevent_net_rcv_skb).
enum NetlinkMessage {
    static let headerByteCount = 16
    /// NLMSG_MIN_TYPE: any that isn't netlink's own.
    private static let type: UInt16 = 0x10
    /// NLM_F_REQUEST and NLM_F_ACK.
    private static let flags: UInt16 = 0x01 | 0x04

    /// A header in the host's byte order (linux/netlink.h), and the payload.
    static func request(_ payload: [UInt8]) -> [UInt8] {
        var header: [UInt8] = []
        func append(_ number: some FixedWidthInteger) {
            for index in 0..<number.bitWidth / 8 {
                header.append(UInt8(truncatingIfNeeded: number.littleEndian >> (index * 8)))
            }
        }
        append(UInt32(headerByteCount + payload.count))
        append(type)
        append(flags)
        append(UInt32(0))
        append(UInt32(0))
        return header + payload
    }
}

func errorText(_ number: Int32) -> String {
    // SAFETY: strerror's text is this thread's until its next call, and is copied here.
    unsafe strerror(number).map { unsafe String(cString: $0) } ?? "error \(number)"
}
