// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// Tells systemd how the service is (sd_notify(3)): one datagram a message to the socket in `NOTIFY_SOCKET`, whose
/// name begins with @ where it's in the abstract name space.
struct SystemdNotifier: Sendable {
    /// Nil where nobody wants to know.
    let path: String?

    init(path: String?) { self.path = path.flatMap { $0.hasPrefix("/") || $0.hasPrefix("@") ? $0 : nil } }

    /// The socket that this process was given. The variable is removed, so that no child speaks for us.
    static func fromEnvironment() -> SystemdNotifier {
        // SAFETY: called once, from the main thread, before any other is started.
        let value = unsafe getenv("NOTIFY_SOCKET").map { unsafe String(cString: $0) }
        unsafe unsetenv("NOTIFY_SOCKET")
        return SystemdNotifier(path: value)
    }

    func ready(status: String) { send("READY=1\nSTATUS=\(oneLine(status))") }
    func status(_ text: String) { send("STATUS=\(oneLine(text))") }
    func stopping() { send("STOPPING=1\nSTATUS=Stopping") }

    private func oneLine(_ text: String) -> String { text.split(whereSeparator: \.isNewline).joined(separator: " ") }

    /// Best effort, as sd_notify itself is: whether the manager listens changes nothing of what the daemon does.
    @discardableResult
    func send(_ message: String) -> Bool {
        guard let path, let (target, length) = Self.address(path) else { return false }
        var address = target
        let descriptor = OwnedDescriptor(
            adopting: socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        )
        guard descriptor.number >= 0 else { return false }
        let bytes = Array(message.utf8)
        // SAFETY: address and bytes outlive the call, which reads no more than the lengths given.
        let sent = unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                unsafe sendto(descriptor.number, bytes, bytes.count, Int32(MSG_NOSIGNAL), address, length)
            }
        }
        return sent == bytes.count
    }

    /// Nil where the name is too long.
    private static func address(_ path: String) -> (sockaddr_un, socklen_t)? {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        var name = Array(path.utf8)
        let isAbstract = name.first == UInt8(ascii: "@")
        if isAbstract { name[0] = 0 } else { name.append(0) }
        guard name.count <= MemoryLayout.size(ofValue: address.sun_path) else { return nil }
        // SAFETY: the name fits, as checked above.
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: name) }
        let offset = MemoryLayout<sa_family_t>.size
        return (address, socklen_t(offset + name.count))
    }
}
