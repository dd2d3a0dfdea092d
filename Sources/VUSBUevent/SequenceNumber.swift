// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// The numbers that udevd's messages carry besides the kernel's own.
enum SequenceNumber {
    /// The kernel's latest, which is that of the message just sent unless something else has happened since; at least 1.
    static func current() -> UInt64 {
        let file = unsafe open("/sys/kernel/uevent_seqnum", O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return 1 }
        defer { close(file) }
        var bytes = [UInt8](repeating: 0, count: 32)
        // SAFETY: read writes within the array.
        let count = unsafe read(file, &bytes, bytes.count)
        let digits = bytes.prefix(max(0, count)).prefix { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
        return max(1, UInt64(String(decoding: digits, as: UTF8.self)) ?? 1)
    }

    /// Of CLOCK_MONOTONIC.
    static func microseconds() -> UInt64 {
        var now = timespec()
        // SAFETY: it writes the one value that it is given.
        unsafe clock_gettime(CLOCK_MONOTONIC, &now)
        return UInt64(now.tv_sec) * 1_000_000 + UInt64(now.tv_nsec) / 1000
    }
}
