// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBFileSystem

/// Plays the module in guest `web1` of a `TreeRig`, on a session of its channel, as `HCDFile` has one.
final class HCDGuest {
    /// Told of changes as a file would be.
    final class Reader: HCDReader {
        let changes = Inbox<Void>()
        func channelChanged() { changes.append(()) }
        func waitChanged(_ wait: UInt32) { changes.append(()) }
    }

    /// A record of the host, whole.
    struct Received: Equatable {
        let record: HCDRecord
        let payload: [UInt8]

        var kind: HCDRecord.Kind? { record.kind }
        var status: Int32 { record.complete.status }
    }

    let session: HCDSession
    let channel: HCDChannel
    let reader = Reader()
    /// Bytes of a record of which there is more to come.
    private var rest: [UInt8] = []

    /// - Parameter isGreeted: whether it has said hello, and read the answer and what it was added.
    init(_ tree: NodeTree, isGreeted: Bool = true) throws {
        tree.openChannel(of: "web1")
        channel = try #require(tree.channel(of: "web1"))
        session = try #require(channel.open())
        session.setReader(reader)
        guard isGreeted else { return }
        #expect(send(HCDBytes.hello()) == 0)
        let hello = receive().first
        #expect(hello?.kind == .hello)
    }

    // MARK: - Writes

    /// One write. Returns 0 or an errno.
    @discardableResult
    func send(_ bytes: [UInt8]) -> Int32 {
        unsafe bytes.withUnsafeBytes { source in
            let data = unsafe WriteData(source, in: nil)
            return session.write(data)
        }
    }

    @discardableResult
    func send(_ kind: HCDRecord.Kind, device: UInt16 = 0, id: UInt64 = 0) -> Int32 {
        send(HCDBytes.record(HCDRecord(kind, device: device, id: id)))
    }

    // MARK: - Reads

    /// The answer to one read of `size` bytes; nil where it would wait.
    func read(_ size: Int = 512 << 10) -> [UInt8]? {
        switch session.beginRead() {
        case .nothing: return nil
        case .failed: return nil
        case .empty: return []
        case .output(var output):
            session.fill(&output, size: size)
            let bytes = output.bytes()
            session.endRead(output)
            return bytes
        }
    }

    /// The errno of a read; nil where it has none.
    func readFailure() -> Int32? {
        if case .failed(let errno) = session.beginRead() { return errno }
        return nil
    }

    /// All that there is to read now, in reads of `size` bytes.
    func receive(size: Int = 512 << 10) -> [Received] {
        while let bytes = read(size), !bytes.isEmpty { rest += bytes }
        var records: [Received] = []
        var position = 0
        while position + HCDRecord.byteCount <= rest.count {
            let record = HCDBytes.record(in: rest, at: position)
            let end = position + Int(record.size)
            let next = end + HCDRecord.padding(Int(record.size))
            guard next <= rest.count else { break }
            records.append(Received(record: record, payload: Array(rest[(position + HCDRecord.byteCount)..<end])))
            position = next
        }
        rest.removeFirst(position)
        return records
    }

    /// Reads until there are `count` records in all: for answers that come on another thread.
    func receive(count: Int) async -> [Received] {
        var records = receive()
        while records.count < count {
            let seen = reader.changes.count
            let more = receive()
            if more.isEmpty { await reader.changes.wait(for: seen + 1) }
            records += more
        }
        return records
    }

    func close() { channel.close(session) }
}

/// Puts together what a guest writes.
enum HCDBytes {
    static func record(_ record: HCDRecord, payload: [UInt8] = []) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: HCDRecord.byteCount)
        unsafe bytes.withUnsafeMutableBytes { target in
            if let base = target.baseAddress { unsafe record.write(to: base) }
        }
        bytes += payload
        return bytes + Array(repeating: 0, count: HCDRecord.padding(bytes.count))
    }

    static func record(in bytes: [UInt8], at position: Int) -> HCDRecord {
        unsafe bytes.withUnsafeBytes { source in
            guard let base = source.baseAddress else { return HCDRecord(.hello) }
            return unsafe HCDRecord(reading: base + position)
        }
    }

    static func hello(
        name: String = "test 1",
        wait: UInt32 = 1000,
        _ change: (inout HCDRecord.Hello) -> Void = { _ in }
    ) -> [UInt8] {
        var head = HCDRecord(.hello, payload: name.utf8.count)
        head.hello.magic = 0x4253_5556
        head.hello.version = 1
        head.hello.ports = 8
        head.hello.maxTransfer = 1 << 20
        head.hello.wait = wait
        change(&head.hello)
        return record(head, payload: Array(name.utf8))
    }

    /// A URB's id: a slot and a generation.
    static func id(_ slot: Int, _ generation: UInt64 = 1) -> UInt64 { generation << 16 | UInt64(slot) }

    static func submit(
        _ id: UInt64,
        device: UInt16 = 1,
        endpoint: UInt8,
        transfer: UInt8 = 2,
        length: Int,
        payload: [UInt8] = [],
        _ change: (inout HCDRecord.Submit) -> Void = { _ in }
    ) -> [UInt8] {
        var head = HCDRecord(.submit, device: device, id: id, payload: payload.count)
        head.submit.endpoint = endpoint
        head.submit.transfer = transfer
        head.submit.length = UInt32(length)
        change(&head.submit)
        return record(head, payload: payload)
    }

    static func bulkIn(_ id: UInt64, _ length: Int, device: UInt16 = 1) -> [UInt8] {
        submit(id, device: device, endpoint: 0x81, length: length)
    }

    static func bulkOut(_ id: UInt64, _ data: [UInt8], device: UInt16 = 1) -> [UInt8] {
        submit(id, device: device, endpoint: 0x02, length: data.count, payload: data)
    }

    static func control(_ id: UInt64, _ setup: SetupPacket, _ data: [UInt8] = []) -> [UInt8] {
        submit(id, endpoint: 0, transfer: 0, length: Int(setup.wLength), payload: data) { $0.setup = setup }
    }

    /// A packet table with data behind it.
    static func isochronous(_ id: UInt64, endpoint: UInt8, lengths: [UInt32], data: [UInt8] = []) -> [UInt8] {
        let table = lengths.flatMap { word($0) + word(0) + word(0) }
        let length = Int(lengths.reduce(0, +))
        return submit(id, endpoint: endpoint, transfer: 1, length: length, payload: table + data) {
            $0.packets = UInt16(lengths.count)
        }
    }

    static func word(_ value: UInt32) -> [UInt8] {
        [0, 8, 16, 24].map { UInt8(truncatingIfNeeded: value >> UInt32($0)) }
    }

    /// `count` bytes that differ.
    static func pattern(_ count: Int) -> [UInt8] { (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ $0 >> 8) } }
}
