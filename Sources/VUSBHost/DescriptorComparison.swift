// SPDX-License-Identifier: Apache-2.0

import VUSBCore

/// Reads the descriptors from the device itself and holds them against those that the kernel kept at enumeration: a
/// device that answers otherwise the second time is not what it was checked to be.
struct DescriptorComparison {
    private let record: DeviceRecord
    private let port: any HandlePort

    init(of record: DeviceRecord, through port: any HandlePort) {
        self.record = record
        self.port = port
    }

    /// - Throws: `invalid`, naming the byte. A device that doesn't answer this is left alone: some don't while busy.
    func check() throws(USBError) {
        let bytes = record.descriptors.bytes
        guard try compare(DescriptorType.device, 0, at: 0, count: DeviceDescriptor.byteCount) else { return }
        var offset = DeviceDescriptor.byteCount
        var index: UInt8 = 0
        while offset + 3 < bytes.count {
            let length = Int(bytes[offset + 2]) | Int(bytes[offset + 3]) << 8
            guard length > 0, offset + length <= bytes.count else { return }
            guard try compare(DescriptorType.configuration, index, at: offset, count: length) else { return }
            offset += length
            index += 1
        }
    }

    /// False where the device doesn't answer.
    private func compare(_ type: UInt8, _ index: UInt8, at offset: Int, count: Int) throws(USBError) -> Bool {
        guard var answer = port.descriptor(type, index, length: UInt16(clamping: count)) else { return false }
        var expected = Array(record.descriptors.bytes[offset..<(offset + count)])
        if type == DescriptorType.configuration {
            // bmAttributes and bMaxPower follow whether the device has power of its own now.
            for position in 7...8 where position < answer.count && position < expected.count {
                answer[position] = 0
                expected[position] = 0
            }
        }
        if let difference = Self.difference(expected, answer) {
            throw Self.error(record.id, at: offset + difference)
        }
        return true
    }

    /// The first byte in which they differ; nil where they are the same.
    static func difference(_ left: [UInt8], _ right: [UInt8]) -> Int? {
        if left == right { return nil }
        return zip(left, right).enumerated().first { $0.element.0 != $0.element.1 }?.offset
            ?? min(left.count, right.count)
    }

    static func error(_ id: DeviceID, at offset: Int) -> USBError {
        USBError(
            .invalid,
            "device \(id) is refused: other bytes at the second read of its descriptors, from byte \(offset)",
            remedy: "plug it in again; if it does that again, don't trust it"
        )
    }
}
