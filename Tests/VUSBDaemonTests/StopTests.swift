// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBControl
import VUSBCore
import VUSBTestSupport

@testable import VUSBDaemon

@Suite(.timeLimit(.minutes(1))) struct StopTests {
    @Test func aBlockedReadIsCancelledAtTheDeadline() async throws {
        let bench = try await Bench.loaded(["emu-a 0525:a4a0"])
        try await bench.attach("emu-a")
        try bench.read("1-1")
        await bench.close()
        #expect(bench.handler.completions.map(\.status) == [.cancelled])
        #expect(bench.source.closedBackends.map(\.closes) == [1])
    }

    @Test func aSecondSignalEndsTheWait() async throws {
        let bench = try await Bench.loaded(["emu-a 0525:a4a0"])
        try await bench.attach("emu-a")
        try bench.read("1-1")
        let stop = Task { await bench.plane.stop(deadline: .seconds(3600)) }
        // The state shows that the stop has begun; hurry is repeated until it meets the wait.
        while !bench.handler.completions.contains(where: { $0.status == .cancelled }) {
            await bench.plane.hurry()
            await Task.yield()
        }
        await stop.value
        await bench.close()
    }

    @Test func nothingIsBegunAnyMoreAndListenersEnd() async throws {
        let bench = try await Bench.loaded(["emu-a 0525:a4a0"])
        let events = await bench.plane.events(after: nil)
        await bench.close()
        for await _ in events {}
        let load = await problem { _ = try await bench.plane.load("web1", LoadRequest()) }
        #expect(load?.code == .unavailable)
        let add = await problem { _ = try await bench.plane.addGuest(GuestSpec(name: "web9")) }
        #expect(add?.code == .unavailable)
    }

    @Test func aBackendThatIgnoresCancelsIsEndedByItsClose() async throws {
        let bench = try await Bench.loaded(["emu-a 0525:a4a0"])
        bench.source.ignoreCancels()
        try await bench.attach("emu-a")
        try bench.read("1-1")
        await bench.close()
        #expect(bench.handler.completions.map(\.status) == [.shutdown])
    }
}

@Suite(.timeLimit(.minutes(1))) struct OperationTests {
    @Test func theLastEndedOnesAreKept() async throws {
        let bench = try await Bench.loaded([])
        for _ in 0..<OperationLog.limit / 2 + 10 {
            _ = try await bench.unload("web1")
            try await bench.load("web1")
        }
        let operations = await bench.plane.operations()
        #expect(operations.count == OperationLog.limit)
        let forgotten = await problem { _ = try await bench.plane.operation(1, waitSeconds: 0, afterSteps: nil) }
        #expect(forgotten?.code == .notFound)
        await bench.close()
    }

    @Test func aWaitEndsWithTheNextStepOrItsTime() async throws {
        let bench = try await Bench.loaded(["emu-a 0525:a4a0"])
        try await bench.attach("emu-a")
        try bench.read("1-1")
        let operation = try await bench.plane.detach("emu-a", ReleaseRequest(deadlineSeconds: 3600))
        let first = try await bench.plane.operation(operation.id, waitSeconds: 60, afterSteps: 0)
        #expect(first.steps.count == 1)
        let none = try await bench.plane.operation(operation.id, waitSeconds: 0.01, afterSteps: 1)
        #expect(none.state == .running)
        for seconds in [-1, 0, -Double.infinity, .nan] {
            let now = try await bench.plane.operation(operation.id, waitSeconds: seconds, afterSteps: nil)
            #expect(now.state == .running)
        }
        await bench.close()
        #expect(await bench.plane.operations().last?.state == .cancelled)
    }

    @Test func eventsAreKnownForAWhileAndHaveNoGaps() async throws {
        let bench = try await Bench()
        for number in 0..<1200 { await bench.plane.emit(.guestLife, detail: "\(number)") }
        var sequences: [UInt64] = []
        for await event in await bench.plane.events(after: 100) {
            sequences.append(event.sequence)
            if event.sequence == 1200 { break }
        }
        #expect(sequences == Array(177...1200))
        await bench.close()
    }
}
