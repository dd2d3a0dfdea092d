// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBTestSupport

/// The rows of StorageWatch.md on USB Attached SCSI, through a `VirtualDevice`.
@Suite("StorageWatch.md: UAS")
struct StorageAttachedSCSITests {
    private static let reset = SetupPacket(bmRequestType: 0x21, bRequest: 0xff, wValue: 0, wIndex: 0, wLength: 0)

    /// With alternate setting 1 in force.
    private func rig() throws -> StorageRig {
        let rig = try StorageRig(descriptors: StorageRig.attachedSCSIBytes)
        try rig.control(.setInterface(0, alternate: 1))
        return rig
    }

    private func command(_ rig: StorageRig, _ tag: UInt16, _ block: [UInt8], lun: UInt8 = 0) throws {
        try rig.out(0x04, StorageRig.commandUnit(tag, block, lun: lun))
    }

    private func status(_ rig: StorageRig, _ tag: UInt16, _ status: UInt8 = 0, key: UInt8? = nil) throws {
        try rig.in(0x83, StorageRig.senseUnit(tag, status: status, key: key), stream: tag, room: 112)
    }

    @Test("S40: several commands at once, told apart by their tags")
    func tags() async throws {
        let rig = try rig()
        try command(rig, 1, Block.write10(1))
        try command(rig, 2, Block.write10(2))
        try command(rig, 3, Block.read10)
        #expect(rig.busyWith == "WRITE(10)")
        try status(rig, 2)
        #expect(rig.dirtyBytes == 1024)
        try status(rig, 1)
        #expect(rig.dirtyBytes == 1536)
        try status(rig, 3)
        try status(rig, 4)
        #expect(rig.dirtyBytes == 1536)
        await rig.end()
    }

    @Test("S41: a flush covers what had its status when it was sent, and no more")
    func flushCovers() async throws {
        let rig = try rig()
        try command(rig, 1, Block.write10(1))
        try status(rig, 1)
        try command(rig, 2, Block.write10(2))
        try command(rig, 3, Block.synchronize)
        try status(rig, 2)
        #expect(rig.dirtyBytes == 1536)
        try status(rig, 3)
        #expect(rig.dirtyBytes == 1024)
        try command(rig, 4, Block.synchronize)
        try status(rig, 4)
        #expect(rig.condition == .clean)
        await rig.end()
    }

    @Test("S41: two flushes at once, the later one's status first")
    func flushesCross() async throws {
        let rig = try rig()
        try command(rig, 1, Block.synchronize)
        try command(rig, 2, Block.write10(1))
        try status(rig, 2)
        try command(rig, 3, Block.synchronize)
        try status(rig, 3)
        #expect(rig.busyWith == "SYNCHRONIZE CACHE(10)")
        try status(rig, 1)
        #expect(rig.condition == .clean)
        await rig.end()
    }

    @Test("S42: with streams, data and status are submitted before their command")
    func streams() async throws {
        let rig = try rig()
        let status = try rig.submitIn(0x83, 112, stream: 5)
        let data = try rig.submitIn(0x81, 192, stream: 5)
        try command(rig, 5, Block.modeSense)
        data.complete(data: Block.cachingPage(false))
        status.complete(data: StorageRig.senseUnit(5))
        #expect(rig.writeCache == .off)
        let selectStatus = try rig.submitIn(0x83, 112, stream: 6)
        let parameters = try rig.submitOut(0x02, Block.cachingPage(true), stream: 6)
        try command(rig, 6, Block.modeSelect)
        parameters.complete()
        selectStatus.complete(data: StorageRig.senseUnit(6))
        #expect(rig.writeCache == .on)
        await rig.end()
    }

    @Test("S42: without streams, the device says whose data are next")
    func ready() async throws {
        let rig = try rig()
        try command(rig, 1, Block.modeSense)
        try command(rig, 2, Block.read10)
        try rig.in(0x83, StorageRig.ready(2, write: false))
        try rig.in(0x81, Block.cachingPage(true))
        try rig.in(0x83, StorageRig.ready(1, write: false))
        try rig.in(0x81, Block.cachingPage(false))
        try status(rig, 1)
        #expect(rig.writeCache == .off)
        try command(rig, 3, Block.modeSelect)
        try rig.in(0x83, StorageRig.ready(3, write: true))
        try rig.out(0x02, Block.cachingPage(true))
        try status(rig, 3)
        #expect(rig.writeCache == .on)
        await rig.end()
    }

    @Test("S43: bytes follow from the number of blocks and the length that READ CAPACITY told")
    func blockLength() async throws {
        let rig = try rig()
        try command(rig, 1, [0x25])
        try rig.in(0x81, [0, 0, 0, 9, 0, 0, 0x10, 0], stream: 1)
        try status(rig, 1)
        try command(rig, 2, Block.write16(2))
        try status(rig, 2)
        #expect(rig.dirtyBytes == 8192)
        // A length that no device has.
        try command(rig, 1, [0x9e, 0x10])
        try rig.in(0x81, Array(repeating: 0xff, count: 32), stream: 1)
        try status(rig, 1)
        try command(rig, 2, Block.write16(1))
        try status(rig, 2)
        #expect(rig.dirtyBytes == 12288)
        await rig.end()
    }

    @Test(
        "S20: a write that wasn't begun leaves nothing; another that failed may",
        arguments: [(0x08, nil, 0), (0x28, nil, 0), (0x18, nil, 0), (0x02, 0x05, 0), (0x02, 0x07, 0), (0x02, 0x06, 0)]
            + [(0x02, 0x03, 512), (0x02, nil, 512), (0x40, nil, 512), (0xff, nil, 512)]
            as [(UInt8, UInt8?, UInt64)])
    func failures(_ code: UInt8, _ key: UInt8?, _ bytes: UInt64) async throws {
        let rig = try rig()
        try command(rig, 1, Block.write10(1))
        try status(rig, 1, code, key: key)
        #expect((rig.dirtyBytes ?? 0) == bytes)
        await rig.end()
    }

    @Test("S44: a response to a command, a tag used anew, a command's URB that fails: it may be written")
    func void() async throws {
        let rig = try rig()
        try command(rig, 1, Block.write10(1))
        try rig.in(0x83, StorageRig.responseUnit(1, code: 0x02))
        #expect(rig.dirtyBytes == 512)
        try command(rig, 1, Block.write10(1))
        try command(rig, 1, Block.write10(1))
        #expect(rig.dirtyBytes == 1024)
        try rig.submitOut(0x04, StorageRig.commandUnit(2, Block.write10(1))).complete(.protocolError)
        #expect(rig.dirtyBytes == 1536)
        try status(rig, 1)
        #expect(rig.dirtyBytes == 2048)
        await rig.end()
    }

    @Test(
        "S45: task management ends what it names, once it has succeeded",
        arguments: [(0x01, 1), (0x02, 1), (0x04, 1), (0x08, 1), (0x10, 2), (0x80, 0)] as [(UInt8, UInt64)])
    func taskManagement(_ function: UInt8, _ ended: UInt64) async throws {
        let rig = try rig()
        try command(rig, 1, Block.write10(1))
        try command(rig, 2, Block.write10(1), lun: 1)
        try rig.out(0x04, StorageRig.taskManagement(3, function: function, task: 1))
        try rig.in(0x83, StorageRig.responseUnit(3, code: 0x05))
        #expect(rig.dirtyBytes == nil)
        try rig.out(0x04, StorageRig.taskManagement(3, function: function, task: 1))
        try rig.in(0x83, StorageRig.responseUnit(3, code: 0x08))
        #expect((rig.dirtyBytes ?? 0) == 512 * ended)
        await rig.end()
    }

    @Test("S46: the alternate settings are followed, and what is dirty stays so")
    func alternates() async throws {
        let rig = try StorageRig(descriptors: StorageRig.attachedSCSIBytes)
        try rig.command(Block.write10(2), Array(repeating: 0, count: 1024))
        try rig.control(.setInterface(0, alternate: 1))
        #expect(rig.dirtyBytes == 1024)
        // A wrapper means nothing here.
        try rig.command(Block.synchronize)
        #expect(rig.dirtyBytes == 1024)
        try command(rig, 1, Block.write10(1))
        try rig.control(.setInterface(0, alternate: 0))
        #expect(rig.dirtyBytes == 1536)
        try rig.command(Block.synchronize)
        #expect(rig.condition == .clean)
        try rig.control(.setConfiguration(2))
        #expect(rig.condition == .clean)
        await rig.end()
    }

    @Test("S47: too many commands: one whose end can't be seen is dirty from its submit on")
    func tooManyCommands() async throws {
        let rig = try rig()
        for tag: UInt16 in 1...256 { try command(rig, tag, Block.write10(1)) }
        #expect(rig.dirtyBytes == nil)
        try command(rig, 257, Block.write10(1))
        #expect(rig.dirtyBytes == 512)
        for tag: UInt16 in 1...257 { try status(rig, tag) }
        #expect(rig.dirtyBytes == 257 * 512)
        await rig.end()
    }

    @Test("S31: too many units: those beyond count as one, which no flush makes clean")
    func tooManyUnits() async throws {
        let rig = try rig()
        for lun: UInt8 in 0..<20 {
            try command(rig, 1, Block.write10(1), lun: lun)
            try status(rig, 1)
        }
        #expect(rig.device.storage?.units.count == 16)
        #expect(rig.dirtyBytes == 20 * 512)
        for lun: UInt8 in 0..<20 {
            try command(rig, 1, Block.synchronize, lun: lun)
            try status(rig, 1)
        }
        #expect(rig.dirtyBytes == 5 * 512)
        await rig.end()
    }

    @Test("S48: an interface without its four pipe usage descriptors isn't followed")
    func noPipes() throws {
        var bytes = StorageRig.attachedSCSIBytes
        // The last pipe's ID.
        let last = try #require(bytes.lastIndex(of: DescriptorType.classSpecificInterface))
        bytes[last + 1] = 3
        let rig = try StorageRig(descriptors: bytes)
        try rig.control(.setInterface(0, alternate: 1))
        try command(rig, 1, Block.write10(1))
        try status(rig, 1)
        #expect(rig.condition == .clean)
    }
}
