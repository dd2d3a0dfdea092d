// SPDX-License-Identifier: Apache-2.0

import CVUSBShims
import Testing
import VUSBCore

@testable import VUSBFileSystem

@Suite("Records of the channel")
struct HCDRecordTests {
    @Test("have the sizes of the C structs")
    func sizes() {
        #expect(MemoryLayout<vusb_record>.size == HCDRecord.byteCount)
        #expect(MemoryLayout<vusb_iso_packet>.size == HCDPacket.byteCount)
        for size in [
            MemoryLayout<vusb_hello>.size, MemoryLayout<vusb_added>.size, MemoryLayout<vusb_remove>.size,
            MemoryLayout<vusb_submit>.size, MemoryLayout<vusb_complete>.size, MemoryLayout<vusb_result>.size,
            MemoryLayout<vusb_wait>.size,
        ] { #expect(size == 32) }
    }

    @Test("have the types of the C enumeration")
    func types() {
        let expected: [(HCDRecord.Kind, vusb_type)] = [
            (.hello, VUSB_HELLO), (.added, VUSB_ADDED), (.remove, VUSB_REMOVE), (.removed, VUSB_REMOVED),
            (.submit, VUSB_SUBMIT), (.complete, VUSB_COMPLETE), (.cancel, VUSB_CANCEL), (.reset, VUSB_RESET),
            (.resetDone, VUSB_RESET_DONE), (.quiesce, VUSB_QUIESCE), (.quiesced, VUSB_QUIESCED),
            (.resume, VUSB_RESUME), (.resumed, VUSB_RESUMED), (.wait, VUSB_WAIT), (.ping, VUSB_PING),
            (.pong, VUSB_PONG), (.bye, VUSB_BYE),
        ]
        for (kind, type) in expected { #expect(UInt32(kind.rawValue) == type.rawValue) }
        #expect(HCDRecord.Transfer.control == UInt8(VUSB_CONTROL.rawValue))
        #expect(HCDRecord.Transfer.isochronous == UInt8(VUSB_ISOCHRONOUS.rawValue))
        #expect(HCDRecord.Transfer.last == UInt8(VUSB_INTERRUPT.rawValue))
        #expect(URB.Flags.shortNotOK.rawValue == UInt8(VUSB_URB_SHORT_NOT_OK))
        #expect(URB.Flags.zeroPacket.rawValue == UInt8(VUSB_URB_ZERO_PACKET))
    }

    /// Fills a C struct of a record, and reads it as `HCDRecord`.
    private func record(_ fill: (inout vusb_record) -> Void) -> HCDRecord {
        var source = vusb_record()
        fill(&source)
        return unsafe withUnsafeBytes(of: &source) { bytes in
            unsafe bytes.baseAddress.map { unsafe HCDRecord(reading: $0) } ?? HCDRecord(.bye)
        }
    }

    @Test("are read as C wrote them: the fields of all")
    func common() {
        let record = record { source in
            source.size = 0x0102_0304
            source.type = 0x0506
            source.device = 0x0708
            source.id = 0x1112_1314_1516_1718
        }
        #expect(record.size == 0x0102_0304)
        #expect(record.type == 0x0506)
        #expect(record.device == 0x0708)
        #expect(record.id == 0x1112_1314_1516_1718)
        #expect(record.slot == 0x1718)
    }

    @Test("are read as C wrote them: hello")
    func hello() {
        let record = record { source in
            source.hello = vusb_hello(
                magic: 0x4253_5556, version: 0x0102, ports: 0x0304, features: 5, urbs: 6, bytes: 7, max_transfer: 8,
                wait: 9, reserved: 0)
        }
        let expected = HCDRecord.Hello(
            magic: 0x4253_5556, version: 0x0102, ports: 0x0304, features: 5, urbs: 6, bytes: 7, maxTransfer: 8, wait: 9)
        #expect(record.hello == expected)
    }

    @Test("are read as C wrote them: submit")
    func submit() {
        let record = record { source in
            source.submit = vusb_submit(
                endpoint: 0x81, transfer: 2, flags: 0x0304, length: 0x0506_0708, stream: 0x090a, packets: 0x0b0c,
                interval: 0x0d0e_0f10, setup: (0x80, 6, 1, 2, 3, 4, 5, 6), reserved: (0, 0, 0, 0, 0, 0, 0, 0))
        }
        let expected = HCDRecord.Submit(
            endpoint: 0x81, transfer: 2, flags: 0x0304, length: 0x0506_0708, stream: 0x090a, packets: 0x0b0c,
            interval: 0x0d0e_0f10,
            setup: SetupPacket(bmRequestType: 0x80, bRequest: 6, wValue: 0x0201, wIndex: 0x0403, wLength: 0x0605))
        #expect(record.submit == expected)
    }

    @Test("are read as C wrote them: complete, added, remove, result, wait")
    func others() {
        let complete = record { source in
            source.complete.status = UInt32(bitPattern: -32)
            source.complete.actual_length = 0x0102_0304
            source.complete.start_frame = 5
            source.complete.packets = 0x0607
            source.complete.error_count = 0x0809
        }
        let expected = HCDRecord.Complete(
            status: -32, actualLength: 0x0102_0304, startFrame: 5, packets: 0x0607, errorCount: 0x0809)
        #expect(complete.complete == expected)
        let added = record { source in
            source.added.speed = 3
            source.added.port = 0x0a0b_0c0d
        }
        #expect(added.addedSpeed == 3 && added.addedPort == 0x0a0b_0c0d)
        let removal = record { source in source.remove.removal = 1 }.removal
        #expect(removal == 1)
        let result = record { source in source.result.status = UInt32(bitPattern: -19) }.resultStatus
        #expect(result == -19)
        let wait = record { source in
            source.wait.wait = 77
            source.wait.flags = 1
        }
        #expect(wait.waitTime == 77 && wait.waitFlags == 1)
    }

    @Test("are written as they were read", arguments: 0..<8)
    func roundTrip(seed: UInt8) {
        let bytes = (0..<48).map { UInt8(truncatingIfNeeded: $0 &* 31) ^ seed }
        let record = HCDBytes.record(in: bytes, at: 0)
        #expect(Array(HCDBytes.record(record).prefix(48)) == bytes)
        // Each field set to what it was changes nothing.
        var copy = record
        copy.size = record.size
        copy.type = record.type
        copy.device = record.device
        copy.id = record.id
        #expect(copy == record)
        copy.hello = record.hello
        copy.submit = record.submit
        copy.complete = record.complete
        #expect(Array(HCDBytes.record(copy).prefix(44)) == Array(bytes.prefix(44)))
    }

    @Test("say a device's speed as the kernel does")
    func speeds() {
        #expect(DeviceSpeed.allCases.map(\.channelValue) == [1, 2, 3, 5, 6])
    }

    @Test("are padded to eight bytes", arguments: [(48, 0), (49, 7), (55, 1), (56, 0), (66, 6)])
    func padding(size: Int, expected: Int) {
        #expect(HCDRecord.padding(size) == expected)
    }

    @Test("wait in a ring that gives them in order, however it grows")
    func ring() {
        var ring = HCDRing<Int>(capacity: 3)
        var expected = 0
        for value in 0..<100 {
            ring.append(value)
            if value % 3 == 2 {
                #expect(ring.popFirst() == expected)
                expected += 1
            }
        }
        #expect(ring.count == 100 - expected)
        while let value = ring.popFirst() {
            #expect(value == expected)
            expected += 1
        }
        #expect(expected == 100 && ring.isEmpty)
    }
}
