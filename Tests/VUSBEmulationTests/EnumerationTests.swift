// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBEmulation
import VUSBTestSupport

/// What Linux does when a device is plugged in, and the rest of chapter 9.
@Suite struct EnumerationTests {
    static let devices =
        ["zero", "serial", "keyboard"].flatMap { kind in
            ["full", "high", "super"].map { "\(kind),speed=\($0)" }
        } + ["keyboard,speed=low"]

    @Test(arguments: devices) func descriptorsAreReadInPiecesAsLinuxDoes(_ specification: String) async throws {
        let host = try await TestHost(specification)
        let bytes = host.record.descriptors.bytes
        let device = Array(bytes[0..<18])
        let configuration = Array(bytes[18...])
        #expect(await host.descriptor(1, length: 8).bytes == Array(device[0..<8]))
        #expect(await host.descriptor(1, length: 18).bytes == device)
        #expect(await host.descriptor(1, length: 64).bytes == device)
        #expect(await host.descriptor(2, length: 9).bytes == Array(configuration[0..<9]))
        #expect(await host.descriptor(2, length: configuration.count).bytes == configuration)
        #expect(try Descriptors(parsing: device + configuration) == host.record.descriptors)
        await host.close()
    }

    @Test(arguments: devices) func stringsSayWhatTheRecordSays(_ specification: String) async throws {
        let host = try await TestHost(specification)
        #expect(await host.descriptor(3, 0).bytes == [4, 3, 9, 4])
        for (index, text) in [(1, host.record.manufacturer), (2, host.record.product), (3, host.record.serial)] {
            let bytes = await host.descriptor(3, UInt8(index), language: 0x0409, length: 255).bytes
            let units = stride(from: 2, to: bytes.count, by: 2).map { UInt16(bytes[$0]) | UInt16(bytes[$0 + 1]) << 8 }
            #expect(bytes[0] == UInt8(bytes.count) && bytes[1] == 3)
            #expect(String(decoding: units, as: UTF16.self) == text)
        }
        #expect(await host.descriptor(3, 4, language: 0x0409).status == .stall)
        #expect(await host.descriptor(3, 1, language: 0x0407).status == .stall)
        await host.close()
    }

    @Test func aHighSpeedDeviceHasAQualifierAndAnotherSpeed() async throws {
        let host = try await TestHost("zero,speed=high")
        #expect(await host.descriptor(6).bytes == [10, 6, 0, 2, 0xff, 0, 0, 64, 1, 0])
        let other = await host.descriptor(7).bytes
        #expect(other[1] == 7 && Int(other[2]) | Int(other[3]) << 8 == other.count)
        // The first endpoint of the full-speed form.
        #expect(Array(other[18..<25]) == [7, 5, 0x81, 2, 64, 0, 0])
        #expect(await host.descriptor(15).status == .stall)
        await host.close()
    }

    @Test func aSuperSpeedDeviceHasABOSAndCompanions() async throws {
        let host = try await TestHost("zero,speed=super")
        let bos = await host.descriptor(15).bytes
        #expect(Array(bos[0..<5]) == [5, 15, 22, 0, 2] && bos.count == 22)
        #expect(await host.descriptor(6).status == .stall)
        #expect(await host.descriptor(7).status == .stall)
        let device = await host.descriptor(1).bytes
        #expect(device[2...3] == [0x00, 0x03] && device[7] == 9)
        let endpoints = host.device.settings.endpoints
        #expect(endpoints.allSatisfy { $0.companion != nil && $0.maxPacketSize == 1024 })
        await host.close()
    }

    @Test func gadgetZeroHasTheDescriptorsOfTheGadget() async throws {
        let host = try await TestHost("zero")
        #expect(host.record.descriptors.device.idVendor == 0x0525)
        #expect(host.record.descriptors.device.idProduct == 0xa4a0)
        let configuration = await host.descriptor(2).bytes
        #expect(Array(configuration[4..<9]) == [1, 1, 0, 0x80, 1])
        #expect(Array(configuration[9..<18]) == [9, 4, 0, 0, 2, 0xff, 0, 0, 0])
        #expect(Array(configuration[18..<32]) == [7, 5, 0x81, 2, 0, 2, 0, 7, 5, 2, 2, 0, 2, 0])
        let alternates = [0: [0x02, 0x81], 1: [0x02, 0x04, 0x81, 0x83], 2: [0x02, 0x06, 0x81, 0x85]]
        for (alternate, addresses) in alternates {
            await host.setInterface(0, UInt16(alternate))
            #expect(host.device.settings.endpoints.map { Int($0.bEndpointAddress.rawValue) } == addresses)
        }
        await host.close()
    }

    // MARK: - Settings

    @Test func configurationAndInterfaceAreSetAndRead() async throws {
        let host = try await TestHost("zero")
        #expect(await host.control(0x80, 8, length: 1).bytes == [1])
        #expect(await host.control(0x81, 10, length: 1).bytes == [0])
        #expect(await host.setInterface(0, 2).status == .success)
        #expect(await host.control(0x81, 10, length: 1).bytes == [2])
        #expect(await host.setInterface(0, 3).status == .stall)
        #expect(await host.setInterface(1, 0).status == .stall)
        #expect(await host.control(0x00, 9, 0).status == .success)
        #expect(await host.control(0x80, 8, length: 1).bytes == [0])
        #expect(await host.control(0x81, 10, length: 1).status == .stall)
        #expect(await host.receive(0x81, 512).status == .noEndpoint)
        #expect(await host.control(0x00, 9, 2).status == .stall)
        #expect(await host.control(0x00, 9, 1).status == .success)
        #expect(await host.control(0x81, 10, length: 1).bytes == [0])
        #expect(await host.receive(0x81, 512).status == .success)
        await host.close()
    }

    @Test func settingAnInterfaceEndsWhatWaitsOnItsEndpoints() async throws {
        let host = try await TestHost("serial")
        let (waiting, _) = host.startReceive(0x81, 512)
        let order = Inbox<String>()
        let setting = RecordingHandler { _ in order.append("set") }
        #expect(waiting.completions.isEmpty)
        let setup = SetupPacket(bmRequestType: 1, bRequest: 11, wValue: 0, wIndex: 1, wLength: 0)
        host.device.submit(TestURB.control(setup, pool: host.pool, handler: setting))
        #expect(await setting.wait(for: 1)[0].status == .success)
        // Before the request itself completed: no waiting for it.
        #expect(waiting.completions.map(\.status) == [.shutdown])
        await host.close()
    }

    @Test func aSecondHostIsRefusedUntilTheFirstHasClosed() async throws {
        let host = try await TestHost("zero")
        await #expect { _ = try await host.source.open(host.record, isForced: false) } throws: {
            ($0 as? USBError)?.code == .busy
        }
        await host.setInterface(0, 1)
        await host.close()
        let second = try await TestHost(opening: host.record, host.source)
        // As one that was just plugged in.
        #expect(await second.control(0x81, 10, length: 1).bytes == [0])
        await second.close()
    }

    // MARK: - Status and features

    @Test func haltingAnEndpointStallsItUntilItIsCleared() async throws {
        let host = try await TestHost("zero")
        #expect(await host.isHalted(0x81) == false)
        #expect(await host.halt(0x81).status == .success)
        #expect(await host.isHalted(0x81))
        #expect(await host.receive(0x81, 512).status == .stall)
        #expect(await host.receive(0x81, 512).status == .stall)
        #expect(await host.send(0x02, [0]).status == .success)
        #expect(await host.clearHalt(0x81).status == .success)
        #expect(await host.isHalted(0x81) == false)
        #expect(await host.receive(0x81, 512).status == .success)
        await host.close()
    }

    @Test func haltingAnEndpointEndsWhatWaitsThereWithAStall() async throws {
        let host = try await TestHost("serial")
        let (waiting, _) = host.startReceive(0x81, 512)
        #expect(await host.halt(0x81).status == .success)
        #expect(await waiting.wait(for: 1)[0].status == .stall)
        await host.close()
    }

    @Test func endpointZeroRecoversFromItsStall() async throws {
        let host = try await TestHost("zero")
        for setup in [(0x80, 99, 0, 0), (0x81, 6, 0x0400, 0), (0x80, 6, 0x0500, 0), (0xc0, 1, 0, 0), (0x60, 0, 0, 0)] {
            let completion = await host.control(
                UInt8(setup.0), UInt8(setup.1), UInt16(setup.2), UInt16(setup.3), length: 8)
            #expect(completion.status == .stall, "\(setup)")
            #expect(await host.descriptor(1, length: 18).status == .success)
        }
        #expect(await host.halt(0x00).status == .stall)
        await host.close()
    }

    @Test func statusOfDeviceInterfaceAndEndpoint() async throws {
        let host = try await TestHost("zero")
        #expect(await host.control(0x80, 0, length: 2).bytes == [0, 0])
        #expect(await host.control(0x81, 0, length: 2).bytes == [0, 0])
        #expect(await host.control(0x82, 0, 0, 0, length: 2).bytes == [0, 0])
        #expect(await host.control(0x81, 0, 0, 1, length: 2).status == .stall)
        #expect(await host.control(0x82, 0, 0, 0x85, length: 2).status == .stall)
        await host.close()
    }

    @Test func remoteWakeupIsAKeyboardsOnly() async throws {
        let keyboard = try await TestHost("keyboard")
        #expect(await keyboard.control(0x00, 3, 1).status == .success)
        #expect(await keyboard.control(0x80, 0, length: 2).bytes == [2, 0])
        #expect(await keyboard.control(0x00, 1, 1).status == .success)
        #expect(await keyboard.control(0x80, 0, length: 2).bytes == [0, 0])
        await keyboard.close()
        let zero = try await TestHost("zero")
        #expect(await zero.control(0x00, 3, 1).status == .stall)
        await zero.close()
    }

    @Test func superSpeedRequestsAreAnsweredAtSuperSpeedOnly() async throws {
        let fast = try await TestHost("zero,speed=super")
        #expect(await fast.control(0x00, 48, data: [1, 2, 3, 4, 5, 6]).status == .success)
        #expect(await fast.control(0x00, 49, 40).status == .success)
        #expect(await fast.control(0x00, 3, 48).status == .success)
        #expect(await fast.control(0x00, 3, 49).status == .success)
        #expect(await fast.control(0x80, 0, length: 2).bytes == [0x0c, 0])
        #expect(await fast.control(0x01, 3, 0, 0).status == .success)
        await fast.close()
        let slow = try await TestHost("zero,speed=high")
        #expect(await slow.control(0x00, 48, data: [1, 2, 3, 4, 5, 6]).status == .stall)
        #expect(await slow.control(0x00, 49, 40).status == .stall)
        #expect(await slow.control(0x00, 3, 48).status == .stall)
        await slow.close()
    }

    @Test func synchFrameIsForIsochronousEndpoints() async throws {
        let host = try await TestHost("zero")
        await host.setInterface(0, 1)
        #expect(await host.control(0x82, 12, 0, 0x83, length: 2).bytes.count == 2)
        #expect(await host.control(0x82, 12, 0, 0x81, length: 2).status == .stall)
        await host.close()
    }
}
