// SPDX-License-Identifier: Apache-2.0

import Foundation
import Synchronization
import Testing
import VUSBCore
import VUSBEmulation
import VUSBTestSupport

@testable import VUSBIP

/// Imports from our own front: emulated devices, by TCP and Unix sockets.
@Suite("USB/IP imports: from a vusbd")
struct USBIPImportTests {
    private func pattern(_ count: Int) -> [UInt8] { (0..<count).map { UInt8($0 % 512 % 63) } }

    @Test(
        "zero: it arrives with its descriptors and strings; bulk both ways, the pattern whole",
        arguments: [true, false])
    func zero(isTCP: Bool) async throws {
        let rig = try await USBIPImportRig("zero,pattern=mod63", isTCP: isTCP)
        let record = try await rig.importDevice()
        #expect(record.descriptors == rig.record.descriptors)
        #expect(record.source == "usbip" && record.speed == rig.record.speed)
        #expect(record.product == rig.record.product && record.serial == rig.record.serial)
        #expect(rig.importer.source.imports().map(\.state) == [.imported])
        let device = try await rig.importer.open(record)
        let handler = RecordingHandler()
        var count = 0
        for length in [512, 4096, 65536, 1 << 20] {
            device.submit(
                TestURB.in(EndpointAddress(rawValue: 0x81), count: length, pool: device.pool, handler: handler))
            device.submit(
                TestURB.out(EndpointAddress(rawValue: 2), pattern(length), pool: device.pool, handler: handler))
            count += 2
            let ended = await handler.wait(for: count).suffix(2)
            #expect(ended.map(\.status) == [.success, .success] && ended.map(\.actualLength) == [length, length])
            #expect(ended.first { $0.endpoint.direction == .in }?.bytes == pattern(length))
        }
        await rig.finish(device)
    }

    @Test("zero: S4, S5: an alternate setting, isochronous packets both ways; halt and clear")
    func isochronous() async throws {
        let rig = try await USBIPImportRig("zero,pattern=mod63")
        let device = try await rig.importer.open(try await rig.importDevice())
        let handler = RecordingHandler()
        device.submit(
            TestURB.control(
                .setInterface(InterfaceNumber(rawValue: 0), alternate: 1), pool: device.pool, handler: handler))
        #expect(await handler.wait(for: 1).last?.status == .success)
        device.submit(
            TestURB.isochronous(
                EndpointAddress(rawValue: 0x83), lengths: [1024, 512, 1024], pool: device.pool, handler: handler))
        let packets = await handler.wait(for: 2).last?.packets
        #expect(packets?.map(\.actualLength) == [1024, 512, 1024] && packets?.map(\.offset) == [0, 1024, 1536])
        device.submit(
            TestURB.isochronous(
                EndpointAddress(rawValue: 4), lengths: Array(repeating: 64, count: 1024), pool: device.pool,
                handler: handler))
        #expect(await handler.wait(for: 3).last?.packets.count == 1024)
        let halt = SetupPacket(bmRequestType: 2, bRequest: 3, wValue: 0, wIndex: 0x81, wLength: 0)
        device.submit(TestURB.control(halt, pool: device.pool, handler: handler))
        #expect(await handler.wait(for: 4).last?.status == .success)
        let input = EndpointAddress(rawValue: 0x81)
        device.submit(TestURB.in(input, count: 512, pool: device.pool, handler: handler))
        #expect(await handler.wait(for: 5).last?.status == .stall)
        device.submit(TestURB.control(.clearHalt(input), pool: device.pool, handler: handler))
        device.submit(TestURB.in(input, count: 512, pool: device.pool, handler: handler))
        #expect(await handler.wait(for: 7).suffix(2).map(\.status) == [.success, .success])
        await rig.finish(device)
    }

    @Test("keyboard: C1 to C3, 1,000 reports cancelled, each ends once")
    func cancel() async throws {
        let rig = try await USBIPImportRig("keyboard")
        let device = try await rig.importer.open(try await rig.importDevice())
        let handler = RecordingHandler()
        let input = EndpointAddress(rawValue: 0x81)
        for index in 0..<1000 {
            let token = device.submit(TestURB.in(input, count: 8, pool: device.pool, handler: handler))
            // Some while they wait to be sent, some at the server.
            if index % 2 == 0 { Threads.yield() }
            device.cancel(token)
            if index % 100 == 99 { await handler.wait(for: index + 1) }
        }
        let ended = await handler.wait(for: 1000)
        #expect(ended.count == 1000 && ended.allSatisfy { $0.status == .cancelled })
        // Each is told of before it stops counting.
        #expect(usbipEventually { device.inFlight == 0 })
        device.submit(TestURB.in(input, count: 8, pool: device.pool, handler: handler))
        #expect(usbipEventually { rig.served.inFlight == 1 })
        try rig.emulation.type("a", on: rig.record.id)
        #expect(await handler.wait(for: 1001).last?.bytes == [0, 0, 4, 0, 0, 0, 0, 0])
        await rig.finish(device)
    }

    @Test("keyboard: a reset, by the server: what is in flight ends with -108; the device works on")
    func reset() async throws {
        let rig = try await USBIPImportRig("keyboard")
        let device = try await rig.importer.open(try await rig.importDevice())
        let handler = RecordingHandler()
        let input = EndpointAddress(rawValue: 0x81)
        device.submit(TestURB.in(input, count: 8, pool: device.pool, handler: handler))
        #expect(usbipEventually { rig.served.inFlight == 1 })
        try await device.reset()
        #expect(await handler.wait(for: 1).map(\.status) == [.shutdown])
        #expect(rig.importer.events.count == 1)
        // The front doesn't lend anew before its end is told.
        let isEnded = rig.told.elements.contains { if case .ended = $0 { true } else { false } }
        #expect(!isEnded)
        device.submit(TestURB.in(input, count: 8, pool: device.pool, handler: handler))
        #expect(usbipEventually { rig.served.inFlight == 1 })
        try rig.emulation.type("b", on: rig.record.id)
        #expect(await handler.wait(for: 2).last?.bytes == [0, 0, 5, 0, 0, 0, 0, 0])
        await rig.finish(device)
    }

    @Test("closed and opened again, twenty times, with a URB in flight; open twice is busy")
    func reopen() async throws {
        let rig = try await USBIPImportRig("keyboard", isTCP: false)
        let record = try await rig.importDevice()
        for _ in 0..<20 {
            let device = try await rig.importer.open(record)
            await #expect(throws: USBError.self) { _ = try await rig.importer.open(record) }
            let handler = RecordingHandler()
            device.submit(
                TestURB.in(EndpointAddress(rawValue: 0x81), count: 8, pool: device.pool, handler: handler))
            await device.close()
            #expect(await handler.wait(for: 1).map(\.status) == [.noDevice])
            #expect(device.pool.outstanding == 0)
        }
        #expect(rig.importer.events.count == 1)
        await rig.finish()
    }

    @Test(
        "L3: the server stops and comes back at the same place: the device leaves and arrives",
        arguments: [true, false])
    func comesBack(isTCP: Bool) async throws {
        let rig = try await USBIPImportRig("keyboard", isTCP: isTCP)
        let record = try await rig.importDevice()
        let device = try await rig.importer.open(record)
        let handler = RecordingHandler()
        device.submit(TestURB.in(EndpointAddress(rawValue: 0x81), count: 8, pool: device.pool, handler: handler))
        #expect(usbipEventually { rig.served.inFlight == 1 })
        await rig.stopFront()
        #expect(await handler.wait(for: 1).map(\.status) == [.noDevice])
        try await rig.importer.left()
        await device.close()
        try rig.startFront()
        #expect(try await rig.importer.arrived() == record)
        let again = try await rig.importer.open(record)
        again.submit(TestURB.in(EndpointAddress(rawValue: 0x81), count: 8, pool: again.pool, handler: handler))
        #expect(usbipEventually { rig.served.inFlight == 1 })
        try rig.emulation.type("c", on: rig.record.id)
        #expect(await handler.wait(for: 2).last?.status == .success)
        await rig.finish(again)
    }

    @Test("forget: it leaves, and the server has it for others")
    func forget() async throws {
        let rig = try await USBIPImportRig("zero")
        let record = try await rig.importDevice()
        try await rig.importer.source.forget(record.id)
        try await rig.importer.left()
        #expect(rig.importer.source.imports().isEmpty)
        await #expect(throws: USBError.self) { try await rig.importer.source.forget(record.id) }
        // Its first try may come before the server has reset it.
        _ = try rig.importer.source.add(try #require(USBIPRemote(server: rig.server, busID: "1-1")), name: nil)
        #expect(try await rig.importer.arrived() == record)
        await rig.finish()
    }

    @Test("what is imported already isn't imported twice; 64 are all")
    func bounds() async throws {
        let rig = try await USBIPImportRig("zero")
        _ = try await rig.importDevice()
        let remote = try #require(USBIPRemote(server: rig.server, busID: "1-1"))
        #expect(throws: USBError.self) { try rig.importer.source.add(remote, name: "other") }
        for index in 1..<USBIPSource.maximumImports {
            let other = try #require(USBIPRemote(server: .unix(path: "/nowhere"), busID: "2-\(index)"))
            _ = try rig.importer.source.add(other, name: nil)
        }
        let last = try #require(USBIPRemote(server: .unix(path: "/nowhere"), busID: "3-1"))
        #expect(throws: USBError.self) { try rig.importer.source.add(last, name: nil) }
        await rig.finish()
    }

    @Test("another has it: the reason is told, and it's tried again")
    func busy() async throws {
        let rig = try await USBIPImportRig("zero", isTCP: false)
        let other = try USBIPPeer(.unix(rig.path))
        other.startReading()
        other.send(USBIPWire.importDevice())
        _ = await other.next()
        let remote = try #require(USBIPRemote(server: rig.server, busID: "1-1"))
        let id = try rig.importer.source.add(remote, name: "mine")
        #expect(id.rawValue == "ip-mine")
        do {
            try await rig.importer.source.firstTry(of: id)
            Issue.record("it's another's")
        } catch {
            #expect(error.code == .busy && error.message == "another has it")
        }
        // Also while the next try is under way.
        #expect(usbipEventually { rig.importer.source.imports().first?.lastFailure == "another has it" })
        other.close()
        #expect(try await rig.importer.arrived().id == id)
        #expect(rig.importer.source.imports().first?.lastFailure == nil)
        await rig.finish()
    }

    @Test("a server's list")
    func offers() async throws {
        let rig = try await USBIPImportRig("zero")
        let device = rig.record.descriptors.device
        let list = try await USBIPSource.offers(of: rig.server, within: .seconds(10))
        #expect(
            list.offers == [
                USBIPOffer(
                    busID: "1-1", vendorID: device.idVendor, productID: device.idProduct, speed: rig.record.speed,
                    deviceClass: device.bDeviceClass, interfaces: [USBIPInterfaceClass(0xff, 0, 0)])
            ])
        #expect(list.leftOut.isEmpty)
        await rig.finish()
    }

    @Test("two chained: data, a cancel and a reset go through both")
    func chain() async throws {
        let rig = try await USBIPImportRig("keyboard")
        let middle = try await rig.importer.open(try await rig.importDevice())
        let front = USBIPFront(patience: .endless)
        let listener = try front.listen(USBIPListenerDefinition(.tcp(port: 0), .one("web1")))
        USBIPImportRig.lend(middle, by: front)
        let importer = try USBIPImporter()
        let remote = try #require(
            USBIPRemote(server: .tcp(host: "127.0.0.1", port: listener.port ?? 0), busID: "1-1"))
        _ = try importer.source.add(remote, name: nil)
        let device = try await importer.open(try await importer.arrived())
        let handler = RecordingHandler()
        let input = EndpointAddress(rawValue: 0x81)
        device.submit(TestURB.in(input, count: 8, pool: device.pool, handler: handler))
        #expect(usbipEventually { rig.served.inFlight == 1 })
        try rig.emulation.type("a", on: rig.record.id)
        #expect(await handler.wait(for: 1).last?.bytes == [0, 0, 4, 0, 0, 0, 0, 0])
        // The key's release.
        device.submit(TestURB.in(input, count: 8, pool: device.pool, handler: handler))
        await handler.wait(for: 2)
        let token = device.submit(TestURB.in(input, count: 8, pool: device.pool, handler: handler))
        #expect(usbipEventually { rig.served.inFlight == 1 })
        device.cancel(token)
        #expect(await handler.wait(for: 3).last?.status == .cancelled)
        device.submit(TestURB.in(input, count: 8, pool: device.pool, handler: handler))
        #expect(usbipEventually { rig.served.inFlight == 1 })
        try await device.reset()
        #expect(await handler.wait(for: 4).last?.status == .shutdown)
        #expect(rig.importer.events.count == 1 && importer.events.count == 1)
        await device.close()
        await importer.source.stop()
        await front.stop()
        await rig.finish(middle)
    }

    @Test("a vusbd doesn't import from itself", arguments: [true, false])
    func loop(isTCP: Bool) async throws {
        let loops = USBIPLoopGuard()
        let front = USBIPFront(loops: loops)
        let path = "/tmp/vusb-import-\(UUID().uuidString.prefix(8))"
        let listener = try front.listen(
            USBIPListenerDefinition(isTCP ? .tcp(port: 0) : .unix(path: path), .one("web1")))
        let importer = try USBIPImporter(loops: loops)
        let server = isTCP ? USBIPServer.tcp(host: "127.0.0.1", port: listener.port ?? 0) : .unix(path: path)
        let device = VirtualDevice(
            backend: ScriptedBackend(), descriptors: DescriptorBytes.fullZero, speed: .high, configurationValue: 1,
            pool: BufferPool())
        let export = try front.export(device, at: USBIPRig.place)
        let id = try importer.source.add(try #require(USBIPRemote(server: server, busID: "1-1")), name: nil)
        await #expect {
            try await importer.source.firstTry(of: id)
        } throws: { error in
            guard let error = error as? USBError else { return false }
            return error.code == .unsupported && error.message == "the server is this vusbd itself"
        }
        #expect(export.status.state == .free)
        await importer.source.stop()
        await front.stop()
        await device.close()
    }
}
