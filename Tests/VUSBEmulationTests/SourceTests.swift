// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBEmulation
import VUSBTestSupport

@Suite struct SourceTests {
    @Test func devicesArriveInOrderBeforeAndAfterTheStart() async throws {
        let source = EmulationSource()
        try source.add(EmulationSpecification(parsing: "zero"))
        var events = try source.start().makeAsyncIterator()
        try source.add(EmulationSpecification(parsing: "serial,name=line"))
        try source.remove(DeviceID("emu-zero"))
        await source.stop()
        var seen: [String] = []
        while let event = await events.next() {
            switch event {
            case .arrived(let record): seen.append("+\(record.id)")
            case .left(let id): seen.append("-\(id)")
            case .refused(let id, let reason): seen.append("!\(id) \(reason)")
            }
        }
        #expect(seen == ["+emu-zero", "+emu-line", "-emu-zero"])
    }

    @Test func namesAreTheKindsWithANumber() throws {
        let source = EmulationSource()
        let add = { (text: String) in
            try source.add(EmulationSpecification(parsing: text)).map(\.id.rawValue)
        }
        #expect(try add("zero") == ["emu-zero"])
        #expect(try add("zero") == ["emu-zero-2"])
        #expect(try add("zero") == ["emu-zero-3"])
        #expect(try add("zero,count=2,name=many") == ["emu-many-1", "emu-many-2"])
        #expect { try add("serial,name=zero") } throws: { ($0 as? USBError)?.code == .invalid }
        #expect { try add("serial,name=many,count=3") } throws: { ($0 as? USBError)?.code == .invalid }
    }

    @Test func serialNumbersAreStableAndDiffer() throws {
        let first = try EmulationSource().add(EmulationSpecification(parsing: "zero,count=50")).map(\.serial)
        let second = try EmulationSource().add(EmulationSpecification(parsing: "zero,count=50")).map(\.serial)
        #expect(first == second && Set(first).count == 50)
        #expect(first.allSatisfy { ($0?.count ?? 0) == 16 })
        let own = try EmulationSource().add(EmulationSpecification(parsing: "zero,serial=A 1"))
        #expect(own.map(\.serial) == ["A 1"])
    }

    @Test func unplugEndsWhatWaitsAndAllThatComes() async throws {
        let host = try await TestHost("serial")
        let (reader, _) = host.startReceive(0x81, 512)
        let (writer, _) = host.startSend(0x01, Array(repeating: 1, count: 100_000))
        try host.source.remove(host.record.id)
        #expect(await reader.wait(for: 1)[0].status == .success || reader.completions[0].status == .noDevice)
        #expect(await writer.wait(for: 1)[0].status == .noDevice)
        #expect(await host.receive(0x81, 512).status == .noDevice)
        #expect(await host.descriptor(1).status == .noDevice)
        #expect { try host.source.remove(host.record.id) } throws: { ($0 as? USBError)?.code == .notFound }
        await #expect { _ = try await host.source.open(host.record, isForced: false) } throws: {
            ($0 as? USBError)?.code == .notFound
        }
        await host.close()
    }

    @Test func unplugEndsAParkedReader() async throws {
        let host = try await TestHost("keyboard")
        let handler = RecordingHandler()
        for _ in 0..<100 {
            host.device.submit(
                TestURB.in(EndpointAddress(rawValue: 0x81), count: 8, pool: host.pool, handler: handler))
        }
        #expect(handler.completions.isEmpty)
        try host.source.remove(host.record.id)
        #expect(await handler.wait(for: 100).map(\.status) == Array(repeating: .noDevice, count: 100))
        await host.close()
    }

    @Test func resetEndsWhatWaitsAndClearsHalts() async throws {
        let host = try await TestHost("serial")
        let (reader, _) = host.startReceive(0x81, 512)
        _ = await host.halt(0x01)
        try await host.device.reset()
        #expect(reader.completions.map(\.status) == [.shutdown])
        #expect(await host.isHalted(0x01) == false)
        await host.close()
    }

    @Test func closeEndsWhatWaits() async throws {
        let host = try await TestHost("serial")
        let (reader, _) = host.startReceive(0x81, 512)
        await host.close()
        #expect(reader.completions.map(\.status) == [.noDevice])
    }

    @Test func unplugWhileEightThreadsSubmitLosesNoURB() async throws {
        let host = try await TestHost("serial")
        await withTaskGroup(of: Int.self) { group in
            for thread in 0..<8 {
                group.addTask {
                    let handler = RecordingHandler()
                    for index in 0..<300 {
                        if thread % 2 == 0 {
                            let endpoint = EndpointAddress(rawValue: 0x81)
                            let token = host.device.submit(
                                TestURB.in(endpoint, count: 512, pool: host.pool, handler: handler))
                            if index % 3 == 0 { host.device.cancel(token) }
                        } else {
                            let endpoint = EndpointAddress(rawValue: 0x01)
                            host.device.submit(
                                TestURB.out(
                                    endpoint, Array(repeating: 1, count: 700), pool: host.pool, handler: handler))
                        }
                        if thread == 0, index == 200 { try? host.source.remove(host.record.id) }
                    }
                    return await handler.wait(for: 300).count
                }
            }
            for await count in group { #expect(count == 300) }
        }
        await host.close()
    }

    @Test func devicesBeyondTheLimitAreRefused() throws {
        let source = EmulationSource()
        let limit = EmulationSource.maximumDevices
        try source.add(EmulationSpecification(parsing: "keyboard,count=\(limit - 1)"))
        #expect { try source.add(EmulationSpecification(parsing: "zero,count=2")) } throws: { error in
            guard let error = error as? USBError else { return false }
            return error.code == .busy && error.message.contains("\(limit)") && error.remedy != nil
        }
        let last = try #require(try source.add(EmulationSpecification(parsing: "zero")).first)
        #expect { try source.add(EmulationSpecification(parsing: "serial")) } throws: {
            ($0 as? USBError)?.code == .busy
        }
        try source.remove(last.id)
        #expect(try source.add(EmulationSpecification(parsing: "serial")).count == 1)
    }

    @Test func aThousandDevicesStandSideBySide() async throws {
        let source = EmulationSource()
        let records = try source.add(EmulationSpecification(parsing: "serial,count=1000"))
        #expect(Set(records.map(\.id)).count == 1000)
        for record in records.prefix(50) {
            let host = try await TestHost(opening: record, source)
            await host.send(0x01, Array(record.id.rawValue.utf8))
            #expect(await host.receive(0x81, 512).bytes == Array(record.id.rawValue.utf8))
            await host.close()
        }
    }
}
