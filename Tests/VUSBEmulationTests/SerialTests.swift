// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBEmulation
import VUSBTestSupport

@Suite struct SerialTests {
    @Test func aChangeOfSettingsFromWithinACancelledURBsHandlerIsCarriedOut() async throws {
        let host = try await TestHost("serial")
        let (device, pool) = (host.device, host.pool)
        let changed = RecordingHandler()
        let setup = SetupPacket(
            bmRequestType: 0x01, bRequest: StandardRequest.setInterface, wValue: 0, wIndex: 1, wLength: 0)
        let handler = RecordingHandler { _ in
            device.submit(TestURB.control(setup, pool: pool, handler: changed))
        }
        let token = device.submit(
            TestURB.in(EndpointAddress(rawValue: 0x81), count: 512, pool: pool, handler: handler))
        device.cancel(token)
        #expect(await handler.wait(for: 1).first?.status == .cancelled)
        // While the handler ran, the cancelled URB counted as under way, and the change had to wait for its end.
        #expect(await changed.wait(for: 1).first?.status == .success)
        await host.close()
    }

    @Test func aLineComesBack() async throws {
        let host = try await TestHost("serial")
        let line = Array("hello, serial\r\n".utf8)
        #expect(await host.send(0x01, line).actualLength == line.count)
        let echo = await host.receive(0x81, 512)
        #expect(echo.status == .success && echo.bytes == line)
        await host.close()
    }

    @Test func aReaderThatIsThereFirstGetsWhatComes() async throws {
        let host = try await TestHost("serial")
        let (reader, _) = host.startReceive(0x81, 4096)
        #expect(reader.completions.isEmpty)
        await host.send(0x01, [1, 2, 3])
        #expect(await reader.wait(for: 1)[0].bytes == [1, 2, 3])
        await host.close()
    }

    @Test(arguments: ["full", "high", "super"])
    func aMebibyteInOddPiecesComesBackWhole(_ speed: String) async throws {
        let host = try await TestHost("serial,speed=\(speed)")
        let data = (0..<1 << 20).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }
        let reading = Task {
            var received: [UInt8] = []
            while received.count < data.count {
                let completion = await host.receive(0x81, 16384)
                guard completion.status == .success else { break }
                received += completion.bytes
            }
            return received
        }
        var sent = 0
        for size in [1, 511, 513, 65537, 100_003, 4096, 300_001].repeated(until: data.count) {
            let end = min(data.count, sent + size)
            let completion = await host.send(0x01, Array(data[sent..<end]))
            #expect(completion.status == .success && completion.actualLength == end - sent)
            sent = end
        }
        #expect(await reading.value == data)
        await host.close()
    }

    @Test func whatNobodyReadsIsBoundedAndTheRestWaits() async throws {
        let host = try await TestHost("serial")
        let (writer, _) = host.startSend(0x01, Array(repeating: 7, count: SerialModel.echoLimit + 1000))
        #expect(writer.completions.isEmpty)
        #expect(await host.receive(0x81, 4096).actualLength == 4096)
        #expect(await writer.wait(for: 1)[0].actualLength == SerialModel.echoLimit + 1000)
        await host.close()
    }

    @Test func aWaitingWriterThatIsCancelledSaysHowMuchWasTaken() async throws {
        let host = try await TestHost("serial")
        let (writer, token) = host.startSend(0x01, Array(repeating: 7, count: SerialModel.echoLimit + 1000))
        host.device.cancel(token)
        let completion = await writer.wait(for: 1)[0]
        #expect(completion.status == .cancelled && completion.actualLength == SerialModel.echoLimit)
        await host.close()
    }

    @Test func fullPacketsWithNothingBehindEndWithAnEmptyOne() async throws {
        let host = try await TestHost("serial")
        await host.send(0x01, Array(repeating: 1, count: 1024))
        // With room for more, the empty packet is in the same transfer.
        #expect(await host.receive(0x81, 4096).actualLength == 1024)
        await host.send(0x01, Array(repeating: 2, count: 1024))
        #expect(await host.receive(0x81, 1024).actualLength == 1024)
        let empty = await host.receive(0x81, 1024)
        #expect(empty.status == .success && empty.actualLength == 0)
        let (next, token) = host.startReceive(0x81, 1024)
        #expect(next.completions.isEmpty)
        host.device.cancel(token)
        #expect(await next.wait(for: 1)[0].status == .cancelled)
        await host.close()
    }

    @Test func aPacketThatDoesNotFitIsBabbleAndNotLost() async throws {
        let host = try await TestHost("serial")
        await host.send(0x01, Array(1...20))
        #expect(await host.receive(0x81, 10).status == .babble)
        #expect(await host.receive(0x81, 20).bytes == Array(1...20))
        await host.close()
    }

    @Test func lineCodingIsKept() async throws {
        let host = try await TestHost("serial")
        #expect(await host.control(0xa1, 0x21, length: 7).bytes == [0x80, 0x25, 0, 0, 0, 0, 8])
        // 115200 8N1.
        let coding: [UInt8] = [0x00, 0xc2, 0x01, 0x00, 0, 0, 8]
        #expect(await host.control(0x21, 0x20, data: coding).status == .success)
        #expect(await host.control(0xa1, 0x21, length: 7).bytes == coding)
        #expect(await host.control(0x21, 0x20, data: [1, 2]).status == .stall)
        #expect(await host.control(0x21, 0x20, 0, 1, data: coding).status == .stall)
        await host.close()
    }

    @Test func terminalReadyAndBreakComeBackAsNotifications() async throws {
        let host = try await TestHost("serial,speed=full")
        let (waiting, _) = host.startReceive(0x82, 10)
        #expect(await host.control(0x21, 0x22, 3).status == .success)
        #expect(await waiting.wait(for: 1)[0].bytes == [0xa1, 0x20, 0, 0, 0, 0, 2, 0, 3, 0])
        #expect(await host.control(0x21, 0x23, 500).status == .success)
        #expect(await host.receive(0x82, 10).bytes == [0xa1, 0x20, 0, 0, 0, 0, 2, 0, 7, 0])
        #expect(await host.control(0x21, 0x22, 0).status == .success)
        #expect(await host.receive(0x82, 10).bytes == [0xa1, 0x20, 0, 0, 0, 0, 2, 0, 0, 0])
        await host.close()
    }

    @Test func whatWasNotReadStaysForTheNextHost() async throws {
        let host = try await TestHost("serial")
        await host.send(0x01, [1, 2, 3])
        await host.close()
        let second = try await TestHost(opening: host.record, host.source)
        #expect(await second.receive(0x81, 512).bytes == [1, 2, 3])
        await second.close()
    }
}

extension [Int] {
    /// Its elements over and over, until their sum is at least `total`.
    fileprivate func repeated(until total: Int) -> [Int] {
        var result: [Int] = []
        var sum = 0
        while sum < total {
            for element in self where sum < total {
                result.append(element)
                sum += element
            }
        }
        return result
    }
}
