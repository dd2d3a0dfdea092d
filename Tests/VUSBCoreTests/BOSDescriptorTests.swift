// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBTestSupport

@Suite("BOS descriptors")
struct BOSDescriptorTests {
    @Test func everyCapabilityIsRead() throws {
        let bos = try BOSDescriptor(parsing: try Fixture.bytes("super-speed-plus.bos.hex"))
        #expect(bos.capabilities.count == 6)
        #expect(bos.capabilities[0] == .usb2Extension(6))
        let superSpeed = SuperSpeedCapability(
            bmAttributes: 0,
            wSpeedsSupported: 0x0e,
            bFunctionalitySupport: 1,
            bU1DevExitLat: 10,
            wU2DevExitLat: 2047
        )
        #expect(bos.capabilities[1] == .superSpeed(superSpeed))
        #expect(bos.capabilities[2] == .containerID((0...15).map { UInt8($0 * 0x11) }))
        guard case .superSpeedPlus(let plus) = bos.capabilities[3] else {
            Issue.record("not SuperSpeedPlus: \(bos.capabilities[3])")
            return
        }
        #expect(plus.count == 20)
        guard case .platform(let uuid, let data) = bos.capabilities[4] else {
            Issue.record("not a platform: \(bos.capabilities[4])")
            return
        }
        #expect(uuid.prefix(4) == [0xdf, 0x60, 0xdd, 0xd8])
        #expect(data == [0x00, 0x00, 0x03, 0x06, 0x9e, 0x00, 0x01, 0x00])
        #expect(bos.capabilities[5] == .unknown(type: 0x7f, bytes: [0x04, 0x10, 0x7f, 0xaa]))
    }

    @Test func bytesBehindTheTotalLengthDontMatter() throws {
        #expect(try BOSDescriptor(parsing: [5, 15, 5, 0, 0, 0xff, 0xff]).capabilities.isEmpty)
    }

    @Test func everyCutIsRefused() throws {
        let bytes = try Fixture.bytes("super-speed-plus.bos.hex")
        for count in 0..<bytes.count {
            #expect(throws: DescriptorError.self) { try BOSDescriptor(parsing: Array(bytes.prefix(count))) }
        }
    }

    @Test(
        "What contradicts itself is refused at its offset",
        arguments: [
            ([4, 15, 5, 0], 0),  // bLength 4
            ([5, 2, 5, 0, 0], 1),  // a configuration
            ([5, 15, 4, 0, 0], 2),  // wTotalLength shorter than the header
            ([5, 15, 6, 0, 0], 2),  // wTotalLength past the end
            ([5, 15, 8, 0, 2, 3, 16, 1], 4),  // two announced, one there
            ([5, 15, 8, 0, 0, 3, 16, 1], 4),  // none announced, one there
            ([5, 15, 8, 0, 1, 0, 16, 1], 5),  // bLength 0
            ([5, 15, 8, 0, 1, 4, 16, 1], 5),  // a capability past the end
            ([5, 15, 8, 0, 1, 3, 5, 1], 6),  // an endpoint instead of a capability
            ([5, 15, 7, 0, 1, 2, 16], 5),  // no type
            ([5, 15, 8, 0, 1, 3, 16, 2], 5),  // a USB 2.0 extension without its attributes
            ([5, 15, 8, 0, 1, 3, 16, 4], 5),  // a container id without the id
        ] as [([UInt8], Int)]
    )
    func contradictions(bytes: [UInt8], offset: Int) {
        let error = #expect(throws: DescriptorError.self) { try BOSDescriptor(parsing: bytes) }
        #expect(error?.offset == offset, "\(error?.description ?? "")")
    }
}
