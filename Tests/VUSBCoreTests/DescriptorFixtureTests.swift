// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBTestSupport

@Suite("Descriptors of devices as they are")
struct DescriptorFixtureTests {
    @Test("Every fixture parses, and keeps its bytes", arguments: try Fixture.names(suffix: "-speed.hex"))
    func everyFixtureParses(name: String) throws {
        let bytes = try Fixture.bytes(name)
        let descriptors = try Descriptors(parsing: bytes)
        #expect(descriptors.bytes == bytes)
        #expect(descriptors.configurations.count == 1)
    }

    /// A blob cut anywhere lies about some length. At 18 bytes the configuration is missing; the webcam's excess byte
    /// is within its wTotalLength, so that it too is missed.
    @Test("Every fixture cut short is refused", arguments: try Fixture.names(suffix: "-speed.hex"))
    func everyCutIsRefused(name: String) throws {
        let bytes = try Fixture.bytes(name)
        for count in 0..<bytes.count {
            #expect(throws: DescriptorError.self) { try Descriptors(parsing: Array(bytes.prefix(count))) }
        }
    }

    @Test func gadgetZeroHasItsBulkPair() throws {
        let zero = try Descriptors(parsing: try Fixture.bytes("gadget-zero-high-speed.hex"))
        #expect(zero.device.idVendor == 0x0525)
        #expect(zero.device.idProduct == 0xa4a0)
        #expect(zero.device.bcdUSB == 0x0200)
        #expect(zero.device.iSerialNumber == 3)
        let configuration = try #require(zero.configuration(value: 1))
        #expect(configuration.bmAttributes == 0x80)
        #expect(configuration.bMaxPower == 1)
        let interface = try #require(configuration.interfaces.first)
        #expect(interface.bInterfaceClass == 0xff)
        #expect(interface.endpoints.map(\.bEndpointAddress.rawValue) == [0x81, 0x02])
        #expect(interface.endpoints.map(\.transferType) == [.bulk, .bulk])
        #expect(interface.endpoints.map(\.maxPacketSize) == [512, 512])
        #expect(zero.configuration(value: 2) == nil)
    }

    @Test func superSpeedEndpointsHaveTheirCompanions() throws {
        let disk = try Descriptors(parsing: try Fixture.bytes("mass-storage-super-speed.hex"))
        let endpoints = try #require(disk.configurations.first?.interfaces.first?.endpoints)
        #expect(disk.device.bMaxPacketSize0 == 9)
        #expect(endpoints.map(\.companion?.bMaxBurst) == [15, 15])
        #expect(endpoints.map(\.maxPacketSize) == [1024, 1024])
    }

    @Test func classSpecificDescriptorsBetweenAreNoObstacle() throws {
        let modem = try Descriptors(parsing: try Fixture.bytes("cdc-acm-full-speed.hex"))
        let interfaces = try #require(modem.configurations.first?.interfaces)
        #expect(interfaces.map(\.bInterfaceClass) == [0x02, 0x0a])
        #expect(interfaces.flatMap(\.endpoints).map(\.bEndpointAddress.rawValue) == [0x83, 0x81, 0x02])
        #expect(interfaces[0].endpoints[0].bInterval == 32)
    }

    @Test func audioEndpointsOfNineBytesAreEndpoints() throws {
        let headset = try Descriptors(parsing: try Fixture.bytes("headset-full-speed.hex"))
        let interfaces = try #require(headset.configurations.first?.interfaces)
        #expect(interfaces.map(\.bInterfaceNumber.rawValue) == [0, 1, 1, 2, 2, 3])
        #expect(interfaces.map(\.bAlternateSetting) == [0, 0, 1, 0, 1, 0])
        #expect(interfaces.map(\.endpoints.count) == [0, 0, 1, 0, 1, 1])
        #expect(interfaces[2].endpoints[0].maxBytesPerInterval == 192)
    }

    @Test func videoAlternatesMultiplyTheirPackets() throws {
        let webcam = try Descriptors(parsing: try Fixture.bytes("webcam-high-speed.hex"))
        let streaming = try #require(webcam.configurations.first).interfaces.filter {
            $0.bInterfaceNumber.rawValue == 1
        }
        #expect(streaming.map { $0.endpoints[0].maxPacketSize } == [0, 192, 800, 1024])
        #expect(streaming.map { $0.endpoints[0].maxBytesPerInterval } == [0, 192, 1600, 3072])
    }

    @Test func alternateSettingsInForceFollowTheChoice() throws {
        let zero = try SampleDevice.zero()
        let interface = InterfaceNumber(rawValue: 0)
        let byDefault = ActiveSettings(zero, configurationValue: 1)
        #expect(byDefault.alternates == [interface: 0])
        #expect(byDefault.endpoints.map(\.bEndpointAddress.rawValue) == [0x02, 0x81])
        let chosen = ActiveSettings(zero, configurationValue: 1, alternates: [interface: 2])
        #expect(chosen.endpoints.map(\.bEndpointAddress.rawValue) == [0x02, 0x06, 0x81, 0x85])
        #expect(chosen.endpoint(EndpointAddress(rawValue: 0x85))?.transferType == .interrupt)
        #expect(chosen.endpoint(EndpointAddress(rawValue: 0x83)) == nil)
    }

    @Test func unconfiguredDeviceHasNoEndpoint() throws {
        let zero = try SampleDevice.zero()
        for value: UInt8 in [0, 9] {
            let settings = ActiveSettings(zero, configurationValue: value)
            #expect(settings.configurationValue == 0)
            #expect(settings.endpoints.isEmpty)
        }
    }

    @Test func interfaceWithoutAlternateZeroBeginsWithItsFirst() throws {
        let descriptors = try Descriptors(
            parsing: DescriptorBytes.device()
                + DescriptorBytes.configuration([
                    DescriptorBytes.interface(0, alternate: 3, endpoints: 1), DescriptorBytes.endpoint(0x81),
                    DescriptorBytes.interface(0, alternate: 4, endpoints: 1), DescriptorBytes.endpoint(0x82),
                ])
        )
        let settings = ActiveSettings(descriptors, configurationValue: 1)
        #expect(settings.alternates == [InterfaceNumber(rawValue: 0): 3])
        #expect(settings.endpoints.map(\.bEndpointAddress.rawValue) == [0x81])
    }
}
