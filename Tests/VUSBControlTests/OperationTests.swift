// SPDX-License-Identifier: Apache-2.0

import Synchronization
import Testing
import VUSBControl

@Suite struct OperationTests {
    /// A guest, and a load of it that doesn't end by itself.
    private static func heldLoad(_ fixture: ServerFixture) async throws -> OperationInfo {
        await fixture.service.hold()
        _ = try await fixture.client.addGuest(GuestSpec(name: "demo"))
        return try await fixture.client.load("demo", LoadRequest())
    }

    @Test func loadWithoutABodyIsAcceptedWithItsPlace() async throws {
        try await ServerFixture.with { fixture in
            _ = try await fixture.client.addGuest(GuestSpec(name: "demo"))
            let reply = try await fixture.exchange("POST /v1/guests/demo/load")
            #expect(reply.status == 202)
            #expect(reply.fields["location"] == "/v1/operations/1")
            #expect(await fixture.service.loads == [LoadRequest()])
        }
    }

    @Test func releaseSettingsReachTheService() async throws {
        try await ServerFixture.with { fixture in
            let request = ReleaseRequest(deadlineSeconds: 0.25, onDeadline: .cancel)
            _ = try await fixture.client.detach("1-2.3", request)
            #expect(await fixture.service.releases == [request])
        }
    }

    @Test func waitReturnsWithTheNextStep() async throws {
        try await ServerFixture.with { fixture in
            let load = try await Self.heldLoad(fixture)
            async let waited = fixture.client.operation(load.id, waitSeconds: 60, afterSteps: load.steps.count)
            await fixture.service.untilWaiting(1)
            await fixture.service.addStep("mount", to: load.id)
            #expect(try await waited.steps.last?.name == "mount")
            #expect(try await waited.state == .running)
        }
    }

    @Test func waitReturnsAtOnceWhenThereAreStepsAlready() async throws {
        try await ServerFixture.with { fixture in
            let load = try await Self.heldLoad(fixture)
            let operation = try await fixture.client.operation(load.id, waitSeconds: 60, afterSteps: 0)
            #expect(operation.steps.count == 1)
        }
    }

    @Test func waitWithoutNewsEndsWithItsTime() async throws {
        try await ServerFixture.with { fixture in
            let load = try await Self.heldLoad(fixture)
            let reply = try await fixture.exchange("GET /v1/operations/\(load.id)?wait=0.02")
            #expect(reply.status == 200)
            #expect(reply.body.contains("running"))
        }
    }

    @Test func waiterThatHangsUpIsForgotten() async throws {
        try await ServerFixture.with { fixture in
            let load = try await Self.heldLoad(fixture)
            let connection = try RawConnection(fixture.socketPath)
            await connection.send("GET /v1/operations/\(load.id)?wait=60 HTTP/1.1\r\nHost: x\r\n\r\n")
            await fixture.service.untilWaiting(1)
            connection.hangUp()
            await fixture.service.untilWaiting(0)
        }
    }

    @Test func serverThatStopsDoesNotSitOutAWait() async throws {
        let begin = ContinuousClock.now
        try await ServerFixture.with {
            $0.patience = .seconds(600)
        } _: { fixture in
            let load = try await Self.heldLoad(fixture)
            let connection = try RawConnection(fixture.socketPath)
            await connection.send("GET /v1/operations/\(load.id)?wait=60 HTTP/1.1\r\nHost: x\r\n\r\n")
            await fixture.service.untilWaiting(1)
        }
        #expect(ContinuousClock.now - begin < .seconds(55))
    }

    @Test func cancelEndsARunningOperation() async throws {
        try await ServerFixture.with { fixture in
            let load = try await Self.heldLoad(fixture)
            let cancelled = try await fixture.client.cancelOperation(load.id)
            #expect(cancelled.state == .cancelled)
            #expect(cancelled.error?.code == .cancelled)
        }
    }

    @Test func followTellsEachStepOnceAndTheEnd() async throws {
        try await ServerFixture.with { fixture in
            let load = try await Self.heldLoad(fixture)
            let counts = Mutex<[Int]>([])
            async let ended = fixture.client.follow(load) { news in
                counts.withLock { $0.append(news.steps.count) }
            }
            for name in ["mount", "publish"] {
                await fixture.service.untilWaiting(1)
                await fixture.service.addStep(name, to: load.id)
            }
            await fixture.service.untilWaiting(1)
            await fixture.service.end(load.id, .succeeded)
            #expect(try await ended.state == .succeeded)
            #expect(counts.withLock { $0 } == [1, 2, 3, 3])
        }
    }
}
