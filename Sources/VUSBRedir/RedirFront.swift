// SPDX-License-Identifier: Apache-2.0

internal import CVUSBShims
internal import Glibc
package import VUSBCore

/// Devices for guests that speak the usbredir protocol: QEMU's `usb-redir`.
///
/// Concurrency model: the control plane opens ports; all sockets are one thread's, the loop's.
package final class RedirFront: Sendable {
    private let directory: String
    private let version: String
    private let loop: RedirLoop
    private let stream: AsyncStream<RedirEvent>
    private let continuation: AsyncStream<RedirEvent>.Continuation

    /// - Parameters:
    ///   - directory: where the sockets are; made where it isn't there yet.
    ///   - version: of vusb, for the hello.
    /// - Throws: `io` where there is no directory, descriptor or thread.
    package init(directory: String, version: String) throws(USBError) {
        self.directory = directory
        self.version = version
        (stream, continuation) = AsyncStream.makeStream(of: RedirEvent.self)
        try Self.makeDirectory(directory)
        loop = try RedirLoop()
    }

    /// Others may pass through it to a socket that is theirs, and not look around.
    private static func makeDirectory(_ path: String) throws(USBError) {
        guard unsafe mkdir(path, 0o711) != 0 else { return }
        let code = errno
        guard code == EEXIST else {
            // SAFETY: strerror answers a zero-terminated text for every number; glibc keeps it per thread.
            throw USBError(
                .io, "can't make the directory \(path): \(unsafe String(cString: strerror(code)))",
                remedy: "let vusbd write to the directory above it")
        }
        let isOwn = unsafe CVUSBShims_is_own_directory(path) == 1
        guard isOwn else {
            throw USBError(
                .accessDenied, "\(path) isn't a directory that vusbd's user alone may write to",
                remedy: "remove it, or have vusbd's own socket in another directory (--socket)")
        }
    }

    /// What happens to all ports, in order. Called once; the stream ends with `stop`.
    package func events() -> AsyncStream<RedirEvent> { stream }

    /// Makes the socket for a device: ready to be connected to when it returns.
    /// - Parameter owner: the user who may connect; all others but root may not.
    /// - Throws: `invalid` where the socket's path is too long, `io`.
    package func open(
        path: String, of guest: String, device: VirtualDevice, owner: UInt32
    ) throws(USBError) -> RedirPort {
        // Another vusbd with its socket beside this one's may have taken it along.
        try Self.makeDirectory(directory)
        let port = try RedirPort(
            at: "\(directory)/\(guest)-\(path)", owner: owner, device: device, loop: loop, version: version
        ) { [continuation] kind in
            continuation.yield(RedirEvent(guest: guest, path: path, kind: kind))
        }
        try port.begin()
        return port
    }

    /// Ports must have ended. The directory goes, too.
    package func stop() async {
        await loop.stop()
        // What else somebody has put there keeps it; else there is nothing of us left.
        _ = unsafe rmdir(directory)
        continuation.finish()
    }
}
