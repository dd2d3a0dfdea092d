// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBTestSupport

/// A mass-storage device over a scripted backend, and what a guest's driver sends to it.
struct StorageRig: Sendable {
    let backend: ScriptedBackend
    let pool = BufferPool()
    let device: VirtualDevice
    let handler = RecordingHandler()

    /// Bulk-only: 0x81 and 0x02.
    init(descriptors: [UInt8] = Self.bulkOnlyBytes) throws {
        backend = ScriptedBackend(always: .hold)
        device = SampleDevice.attach(backend, descriptors: try Descriptors(parsing: descriptors), pool: pool)
    }

    // MARK: - URBs

    /// Submits, and returns what the backend holds.
    @discardableResult
    func submitOut(_ endpoint: UInt8, _ bytes: [UInt8], stream: UInt16 = 0) throws -> ManualCompletion {
        var urb = TestURB.out(EndpointAddress(rawValue: endpoint), bytes, pool: pool, handler: handler)
        urb.streamID = stream
        device.submit(urb)
        return try #require(backend.held.last)
    }

    @discardableResult
    func submitIn(_ endpoint: UInt8, _ count: Int, stream: UInt16 = 0) throws -> ManualCompletion {
        var urb = TestURB.in(EndpointAddress(rawValue: endpoint), count: count, pool: pool, handler: handler)
        urb.streamID = stream
        device.submit(urb)
        return try #require(backend.held.last)
    }

    func out(_ endpoint: UInt8, _ bytes: [UInt8], stream: UInt16 = 0) throws {
        try submitOut(endpoint, bytes, stream: stream).complete()
    }

    func `in`(_ endpoint: UInt8, _ data: [UInt8], stream: UInt16 = 0, room: Int? = nil) throws {
        try submitIn(endpoint, room ?? data.count, stream: stream).complete(data: data)
    }

    func control(_ setup: SetupPacket) throws {
        device.submit(TestURB.control(setup, pool: pool, handler: handler))
        try #require(backend.held.last).complete()
    }

    // MARK: - Bulk-only

    /// A command that sends `data`, or has none, with its status.
    func command(_ block: [UInt8], _ data: [UInt8] = [], lun: UInt8 = 0, tag: UInt32 = 7, status: UInt8 = 0) throws {
        try out(0x02, Self.wrapper(block, out: data.count, lun: lun, tag: tag))
        if !data.isEmpty { try out(0x02, data) }
        try `in`(0x81, Self.status(tag, status))
    }

    /// A command that asks for data, with its status.
    func question(_ block: [UInt8], _ answer: [UInt8], lun: UInt8 = 0, tag: UInt32 = 8, status: UInt8 = 0) throws {
        try out(0x02, Self.wrapper(block, in: 192, lun: lun, tag: tag))
        if !answer.isEmpty { try `in`(0x81, answer, room: 192) }
        try `in`(0x81, Self.status(tag, status))
    }

    static func wrapper(
        _ block: [UInt8], out: Int = 0, in input: Int = 0, lun: UInt8 = 0, tag: UInt32 = 7
    ) -> [UInt8] {
        [0x55, 0x53, 0x42, 0x43] + word(tag) + word(UInt32(out + input))
            + [input > 0 ? 0x80 : 0, lun, UInt8(block.count)] + block + Array(repeating: 0, count: 16 - block.count)
    }

    static func status(_ tag: UInt32, _ status: UInt8 = 0, residue: UInt32 = 0) -> [UInt8] {
        [0x55, 0x53, 0x42, 0x53] + word(tag) + word(residue) + [status]
    }

    private static func word(_ value: UInt32) -> [UInt8] {
        (0..<4).map { UInt8(truncatingIfNeeded: value >> UInt32(8 * $0)) }
    }

    // MARK: - USB Attached SCSI: 0x04 commands, 0x83 statuses, 0x81 data in, 0x02 data out

    static func commandUnit(_ tag: UInt16, _ block: [UInt8], lun: UInt8 = 0) -> [UInt8] {
        [0x01, 0, UInt8(tag >> 8), UInt8(tag & 0xff), 0, 0, block.count > 16 ? UInt8(block.count - 16) : 0, 0]
            + [0, lun, 0, 0, 0, 0, 0, 0] + block + Array(repeating: 0, count: max(0, 16 - block.count))
    }

    /// - Parameter key: of the sense data; nil for none.
    static func senseUnit(_ tag: UInt16, status: UInt8 = 0, key: UInt8? = nil) -> [UInt8] {
        let sense: [UInt8] = key.map { [0x72, $0, 0, 0, 0, 0, 0, 0] } ?? []
        return [0x03, 0, UInt8(tag >> 8), UInt8(tag & 0xff), 0, 0, status]
            + Array(repeating: 0, count: 7) + [0, UInt8(sense.count)] + sense
    }

    static func responseUnit(_ tag: UInt16, code: UInt8) -> [UInt8] {
        [0x04, 0, UInt8(tag >> 8), UInt8(tag & 0xff), 0, 0, 0, code]
    }

    static func taskManagement(_ tag: UInt16, function: UInt8, task: UInt16, lun: UInt8 = 0) -> [UInt8] {
        [0x05, 0, UInt8(tag >> 8), UInt8(tag & 0xff), function, 0, UInt8(task >> 8), UInt8(task & 0xff)]
            + [0, lun, 0, 0, 0, 0, 0, 0]
    }

    static func ready(_ tag: UInt16, write: Bool) -> [UInt8] {
        [write ? 0x07 : 0x06, 0, UInt8(tag >> 8), UInt8(tag & 0xff)]
    }

    // MARK: - Devices

    static let bulkOnlyBytes = DescriptorBytes.device() + DescriptorBytes.configuration([bulkOnly])

    /// As disks have it: bulk-only at alternate setting 0, UAS at 1; and a second configuration with nothing in it.
    static let attachedSCSIBytes =
        DescriptorBytes.device(configurations: 2) + DescriptorBytes.configuration([bulkOnly, attachedSCSI])
        + DescriptorBytes.configuration([DescriptorBytes.interface(0, endpoints: 0)], value: 2)

    private static let bulkOnly =
        [9, DescriptorType.interface, 0, 0, 2, 0x08, 0x06, 0x50, 0] + DescriptorBytes.endpoint(0x81)
        + DescriptorBytes.endpoint(0x02)

    private static let attachedSCSI: [UInt8] = {
        // Pipe usage: the pipe's ID behind its endpoint, with a companion between them at SuperSpeed.
        let pipes: [(UInt8, UInt8)] = [(0x04, 1), (0x83, 2), (0x81, 3), (0x02, 4)]
        let header: [UInt8] = [9, DescriptorType.interface, 0, 1, 4, 0x08, 0x06, 0x62, 0]
        return pipes.reduce(header) { bytes, pipe in
            bytes + DescriptorBytes.endpoint(pipe.0) + DescriptorBytes.companion(attributes: 4)
                + [4, DescriptorType.classSpecificInterface, pipe.1, 0]
        }
    }()

    // MARK: - What is known

    var condition: StorageState.Condition? { device.storage?.condition }
    var writeCache: StorageState.WriteCache? { device.storage?.units.first?.writeCache }

    var dirtyBytes: UInt64? {
        if case .dirty(_, let bytes)? = condition { bytes } else { nil }
    }

    var busyWith: String? {
        if case .inProgress(let command, _)? = condition { command } else { nil }
    }

    /// What holds at the end of every test.
    func end(sourceLocation: SourceLocation = #_sourceLocation) async {
        await device.close()
        #expect(backend.verify() == [], sourceLocation: sourceLocation)
        #expect(device.inFlight == 0, sourceLocation: sourceLocation)
        #expect(pool.outstanding == 0, sourceLocation: sourceLocation)
    }
}

/// Command descriptor blocks.
enum Block {
    static func write10(_ blocks: UInt8, fua: Bool = false) -> [UInt8] {
        [0x2a, fua ? 0x08 : 0, 0, 0, 0, 0, 0, 0, blocks, 0]
    }
    static func write16(_ blocks: UInt8) -> [UInt8] { [0x8a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, blocks, 0, 0] }
    static let read10: [UInt8] = [0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0]
    static let synchronize: [UInt8] = [0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    static let testUnitReady: [UInt8] = [0, 0, 0, 0, 0, 0]
    static let requestSense: [UInt8] = [0x03, 0, 0, 0, 18, 0]
    static let modeSense: [UInt8] = [0x1a, 0, 0x3f, 0, 192, 0]
    static let modeSense10: [UInt8] = [0x5a, 0, 0x08, 0, 0, 0, 0, 0, 192, 0]
    static let modeSelect: [UInt8] = [0x15, 0x10, 0, 0, 24, 0]
    static let stop: [UInt8] = [0x1b, 0, 0, 0, 0, 0]

    /// The caching page behind a header of MODE SENSE(6), and another page before it.
    static func cachingPage(_ isOn: Bool) -> [UInt8] {
        let pages: [UInt8] = [0x01, 2, 0, 0] + [0x08, 18, isOn ? 0x04 : 0] + Array(repeating: 0, count: 17)
        return [UInt8(3 + pages.count), 0, 0, 0] + pages
    }
    static let noCachingPage: [UInt8] = [7, 0, 0, 0, 0x01, 2, 0, 0]

    static func sense(_ key: UInt8) -> [UInt8] { [0x70, 0, key] + Array(repeating: 0, count: 15) }
}
