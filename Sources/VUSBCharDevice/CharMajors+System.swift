// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import VUSBCore

extension CharMajors.Taken {
    /// As the kernel lists them now.
    /// - Throws: `io` where it can't be read.
    init(prefix: String) throws(USBError) {
        let descriptor = unsafe open("/proc/devices", O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw Self.failure(errno) }
        defer { close(descriptor) }
        var text: [UInt8] = []
        var part: [UInt8] = Array(repeating: 0, count: 4096)
        while true {
            let count = unsafe read(descriptor, &part, part.count)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw Self.failure(errno) }
            guard count > 0 else { break }
            text += part.prefix(count)
        }
        self.init(String(decoding: text, as: UTF8.self), prefix: prefix)
    }

    private static func failure(_ code: Int32) -> USBError {
        // SAFETY: strerror answers a zero-terminated text for every number; glibc keeps it per thread.
        USBError(.io, "/proc/devices can't be read: \(unsafe String(cString: strerror(code)))", remedy: "mount /proc")
    }
}
