// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBFileSystem

/// Byte for byte what the module's tests go by.
@Suite("Golden records of the channel")
struct HCDVectorTests {
    @Test("are read as what they stand for", arguments: ChannelVector.all.indices)
    func read(index: Int) throws {
        let vector = ChannelVector.all[index]
        let record = HCDBytes.record(in: vector.bytes, at: 0)
        #expect(Int(record.size) == vector.size, "\(vector.name)")
        #expect(vector.bytes.count == vector.size + HCDRecord.padding(vector.size), "\(vector.name)")
        #expect(Int(record.type) == vector.type && Int(record.device) == vector.device, "\(vector.name)")
        #expect(record.id == vector.id, "\(vector.name)")
        let fields = fields(of: record)
        #expect(fields == Array(vector.fields.prefix(fields.count)), "\(vector.name)")
    }

    @Test("are what comes of their fields when they're written", arguments: ChannelVector.all.indices)
    func write(index: Int) throws {
        let vector = ChannelVector.all[index]
        let kind = try #require(HCDRecord.Kind(rawValue: UInt16(vector.type)), "\(vector.name)")
        let payload = Array(vector.bytes[HCDRecord.byteCount..<vector.size])
        var record = HCDRecord(kind, device: UInt16(vector.device), id: vector.id, payload: payload.count)
        set(vector.fields, of: &record, kind, setup: SetupPacket(Array(vector.bytes[32..<40]).span))
        #expect(HCDBytes.record(record, payload: payload) == vector.bytes, "\(vector.name)")
    }

    @Test("cover all that both sides build")
    func coverage() {
        let types = Set(ChannelVector.all.map(\.type))
        #expect(types.isSuperset(of: [1, 2, 3, 4, 5, 6, 7, 9, 10, 14]))
    }

    private func fields(of record: HCDRecord) -> [Int] {
        switch record.kind {
        case .hello:
            let hello = record.hello
            return [
                Int(hello.version), Int(hello.ports), Int(hello.features), Int(hello.urbs), Int(hello.bytes),
                Int(hello.maxTransfer), Int(hello.wait),
            ]
        case .added: return [Int(record.addedSpeed), Int(record.addedPort)]
        case .remove: return [Int(record.removal)]
        case .submit:
            let submit = record.submit
            return [
                Int(submit.endpoint), Int(submit.transfer), Int(submit.flags), Int(submit.length), Int(submit.stream),
                Int(submit.packets), Int(submit.interval),
            ]
        case .complete:
            let complete = record.complete
            return [
                Int(complete.status), Int(complete.actualLength), Int(complete.startFrame), Int(complete.packets),
                Int(complete.errorCount),
            ]
        case .resetDone: return [Int(record.resultStatus)]
        case .wait: return [Int(record.waitTime), Int(record.waitFlags)]
        default: return []
        }
    }

    private func set(_ fields: [Int], of record: inout HCDRecord, _ kind: HCDRecord.Kind, setup: SetupPacket?) {
        switch kind {
        case .hello:
            record.hello = HCDRecord.Hello(
                version: UInt16(fields[0]),
                ports: UInt16(fields[1]),
                features: UInt32(fields[2]),
                urbs: UInt32(fields[3]),
                bytes: UInt32(fields[4]),
                maxTransfer: UInt32(fields[5]),
                wait: UInt32(fields[6])
            )
        case .added: (record.addedSpeed, record.addedPort) = (UInt8(fields[0]), UInt32(fields[1]))
        case .remove: record.removal = UInt8(fields[0])
        case .submit:
            record.submit = HCDRecord.Submit(
                endpoint: UInt8(fields[0]),
                transfer: UInt8(fields[1]),
                flags: UInt16(fields[2]),
                length: UInt32(fields[3]),
                stream: UInt16(fields[4]),
                packets: UInt16(fields[5]),
                interval: UInt32(fields[6])
            )
            if let setup { record.submit.setup = setup }
        case .complete:
            record.complete = HCDRecord.Complete(
                status: Int32(fields[0]),
                actualLength: UInt32(fields[1]),
                startFrame: UInt32(fields[2]),
                packets: UInt16(fields[3]),
                errorCount: UInt16(fields[4])
            )
        case .resetDone: record.resultStatus = Int32(fields[0])
        case .wait: (record.waitTime, record.waitFlags) = (UInt32(fields[0]), UInt32(fields[1]))
        default: break
        }
    }
}
