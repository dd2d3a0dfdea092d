// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

extension Uevent {
    /// The form in which udevd passes a message on, once it has seen to the device, and for which libudev's monitors
    /// listen (systemd, src/libsystemd/sd-device/device-monitor.c): a header of 40 bytes, then `KEY=value` strings.
    ///
    /// | bytes | field |
    /// |---|---|
    /// | 0-7 | `libudev` and a NUL |
    /// | 8-11 | 0xfeedcafe, big-endian |
    /// | 12-15 | size of the header, the host's byte order, as the next two |
    /// | 16-19 | where the properties begin |
    /// | 20-23 | their length |
    /// | 24-27 | hash of the subsystem, big-endian, as the next: listeners filter by them in the kernel |
    /// | 28-31 | hash of the device type, 0 without one |
    /// | 32-39 | a Bloom filter of tags: none |
    ///
    /// - Parameters:
    ///   - sequenceNumber: not 0, which libudev refuses.
    ///   - microseconds: now, of CLOCK_MONOTONIC; a device with such a time counts as initialised.
    package func udevBytes(sequenceNumber: UInt64, microseconds: UInt64) -> [UInt8] {
        let properties = Self.strings(
            allProperties.map { property in
                // The kernel's messages have it below /dev, udevd's from the root.
                property.key == "DEVNAME" ? Property("DEVNAME", "/dev/" + property.value) : property
            } + [
                Property("SEQNUM", String(sequenceNumber)), Property("USEC_INITIALIZED", String(microseconds)),
            ]
        )
        let size = UInt32(UdevHeader.byteCount)
        return Array("libudev\0".utf8) + Self.bytes(UdevHeader.magic.bigEndian) + Self.bytes(size) + Self.bytes(size)
            + Self.bytes(UInt32(properties.count)) + Self.bytes(UdevHeader.hash(subsystem).bigEndian)
            + Self.bytes(deviceType.map { UdevHeader.hash($0) }?.bigEndian ?? 0) + Self.bytes(0) + Self.bytes(0)
            + properties
    }

    /// In memory's order.
    private static func bytes(_ number: UInt32) -> [UInt8] {
        (0..<4).map { UInt8(truncatingIfNeeded: number.littleEndian >> ($0 * 8)) }
    }
}

enum UdevHeader {
    static let magic: UInt32 = 0xfeed_cafe
    static let byteCount = 40

    /// MurmurHash2 of 32 bits, seed 0 (Austin Appleby, public domain), of words in the byte order of x86.
    static func hash(_ text: String) -> UInt32 {
        let bytes = Array(text.utf8)
        let factor: UInt32 = 0x5bd1_e995
        var hash = UInt32(truncatingIfNeeded: bytes.count)
        for start in stride(from: 0, to: bytes.count - bytes.count % 4, by: 4) {
            var word = (0..<4).reduce(UInt32(0)) { $0 | UInt32(bytes[start + $1]) << ($1 * 8) } &* factor
            word ^= word >> 24
            hash = hash &* factor ^ word &* factor
        }
        let rest = bytes.suffix(bytes.count % 4)
        if !rest.isEmpty {
            for (index, byte) in rest.enumerated() { hash ^= UInt32(byte) << (index * 8) }
            hash = hash &* factor
        }
        hash ^= hash >> 13
        hash = hash &* factor
        return hash ^ hash >> 15
    }
}
