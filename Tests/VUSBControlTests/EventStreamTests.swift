// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import VUSBControl

@Suite struct EventStreamTests {
    private static func listen(
        _ fixture: ServerFixture, query: String = "", fields: String = ""
    ) async throws -> RawConnection {
        let connection = try RawConnection(fixture.socketPath)
        await connection.send("GET /v1/events\(query) HTTP/1.1\r\nHost: x\r\n\(fields)\r\n")
        await fixture.service.untilListening(1)
        return connection
    }

    @Test func eventComesWithItsNumberTypeAndData() async throws {
        try await ServerFixture.with { fixture in
            let connection = try await Self.listen(fixture)
            await fixture.service.happen("attached", device: "1-2.3")
            let text = await connection.receive(until: "\"type\":\"attached\"}\n\n")
            #expect(text.contains("Content-Type: text/event-stream\r\n"))
            let data = #"{"device":"1-2.3","sequence":1,"time":1767225600,"type":"attached"}"#
            #expect(text.contains("id: 1\nevent: attached\ndata: \(data)\n\n"))
        }
    }

    @Test func afterGivesWhatWasMissed() async throws {
        try await ServerFixture.with { fixture in
            for type in ["one", "two", "three"] { await fixture.service.happen(type) }
            let connection = try await Self.listen(fixture, query: "?after=1")
            let text = await connection.receive(until: "event: three")
            #expect(text.contains("id: 2\n"))
            #expect(!text.contains("event: one"))
        }
    }

    @Test func lastEventIDWinsOverAfter() async throws {
        try await ServerFixture.with { fixture in
            for type in ["one", "two", "three"] { await fixture.service.happen(type) }
            let connection = try await Self.listen(fixture, query: "?after=0", fields: "Last-Event-ID: 2\r\n")
            let text = await connection.receive(until: "event: three")
            #expect(!text.contains("event: two"))
        }
    }

    @Test(arguments: ["x", "-1", "1.0", "18446744073709551616", "01"])
    func lastEventIDThatIsNoNumberIs400(id: String) async throws {
        try await ServerFixture.with { fixture in
            let reply = try await fixture.exchange("GET /v1/events", fields: ["Last-Event-ID: \(id)"])
            #expect(reply.status == 400)
            #expect(try reply.problem.detail.contains("Last-Event-ID"))
        }
    }

    @Test func quietStreamSaysThatItIsAlive() async throws {
        try await ServerFixture.with {
            $0.heartbeat = .milliseconds(20)
        } _: { fixture in
            let connection = try await Self.listen(fixture)
            #expect(await connection.receive(until: ": still here\n\n").contains(": still here\n\n"))
        }
    }

    @Test func clientThatHangsUpIsForgotten() async throws {
        try await ServerFixture.with { fixture in
            let connection = try await Self.listen(fixture)
            connection.hangUp()
            await fixture.service.untilListening(0)
        }
    }

    @Test func serviceThatEndsItsEventsEndsTheStream() async throws {
        try await ServerFixture.with { fixture in
            let connection = try await Self.listen(fixture)
            await fixture.service.endEvents()
            #expect(await connection.receive().hasSuffix("0\r\n\r\n"))
        }
    }

    @Test func serverThatStopsEndsTheStream() async throws {
        let begin = ContinuousClock.now
        let kept = KeptConnection()
        try await ServerFixture.with {
            $0.patience = .seconds(600)
        } _: { fixture in
            await kept.keep(try await Self.listen(fixture))
        }
        #expect(ContinuousClock.now - begin < .seconds(300))
        #expect(await kept.connection?.receive().hasSuffix("0\r\n\r\n") == true)
    }

    /// A connection that outlives the server.
    private actor KeptConnection {
        var connection: RawConnection?
        func keep(_ connection: RawConnection) { self.connection = connection }
    }

    @Test func clientThatDoesNotReadIsCutOffInsteadOfKeptInMemory() async throws {
        try await ServerFixture.with { fixture in
            let connection = try await Self.listen(fixture)
            let detail = String(repeating: "x", count: 4096)
            var sent = 0
            // The socket and the pipeline take some; the rest waits, until it's too much.
            while await fixture.service.listening == 1, sent < 100_000 {
                await fixture.service.happen("flood", detail: detail)
                sent += 1
                await Task.yield()
            }
            #expect(await fixture.service.listening == 0)
            _ = connection
        }
    }

    @Test func lineEndInATypeMakesNoFieldOfItsOwn() async throws {
        try await ServerFixture.with { fixture in
            let connection = try await Self.listen(fixture)
            await fixture.service.happen("bad\ndata: {}\n\nid: 9")
            let text = await connection.receive(until: "\"sequence\":1")
            #expect(text.contains("event: baddata: {}id: 9\n"))
            #expect(!text.contains("\nid: 9"))
        }
    }

    @Test func clientGetsEventsOfSeveralPieces() {
        var lines = EventLines()
        let text = Array(": hello\n\nid: 1\nevent: a\ndata: {\"x\":1}\n\ndata: 2\n".utf8)
        var found: [[UInt8]] = []
        for byte in text { found += lines.feed([byte]) }
        #expect(found.map { String(decoding: $0, as: UTF8.self) } == [" {\"x\":1}", " 2"])
    }
}
