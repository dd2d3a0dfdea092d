// SPDX-License-Identifier: Apache-2.0

import Synchronization
import Testing
import VUSBCore
import VUSBTestSupport

/// The rows of Cancellation.md against each other, on threads of their own. What must hold whoever wins: each URB
/// completes exactly once, with a status that its row allows, and nothing is left.
@Suite("Cancellation.md: races", .timeLimit(.minutes(2)))
struct RaceTests {
    private static let threads = 4
    private static let rounds = 400

    /// Contexts of all submitted URBs, each once, whatever thread completed them.
    private func expectOnceEach(_ rig: Rig, _ count: Int, sourceLocation: SourceLocation = #_sourceLocation) {
        let contexts = rig.handler.completions.map(\.context)
        #expect(contexts.count == count, sourceLocation: sourceLocation)
        #expect(Set(contexts).count == contexts.count, sourceLocation: sourceLocation)
    }

    @Test("C1, C2, C7, C8, C10: submit, complete and cancel at once")
    func submitCompleteCancel() async throws {
        let rig = try Rig(ScriptedBackend(always: .hold))
        let tokens = Inbox<URBToken>()
        let total = Self.threads * Self.rounds
        await Threads.run(Self.threads + 2) { index in
            switch index {
            case 0:
                // Completes until all have ended; some were cancelled first.
                while rig.handler.completions.count < total { if !rig.backend.completeNext() { Threads.yield() } }
            case 1:
                // Every third token, most of them late.
                var next = 0
                while next < total {
                    let known = tokens.elements
                    if next >= known.count { Threads.yield() }
                    while next < known.count {
                        rig.device.cancel(known[next])
                        next += 3
                    }
                }
            default:
                for round in 0..<Self.rounds {
                    let context = UInt64(index * Self.rounds + round)
                    tokens.append(rig.submitIn(context: context))
                }
            }
        }
        expectOnceEach(rig, total)
        #expect(Set(rig.statuses).isSubset(of: [.success, .cancelled]))
        #expect(rig.device.counters.completedURBs == UInt64(total))
        rig.expectAtRest()
    }

    @Test("C20, C21, C22, C23: submit against unplug")
    func submitUnplug() async throws {
        for _ in 0..<20 {
            let rig = try Rig(ScriptedBackend(always: .hold))
            let submitted = Atomic<Int>(0)
            await Threads.run(Self.threads + 1) { index in
                guard index > 0 else {
                    while submitted.load(ordering: .relaxed) < 20 { Threads.yield() }
                    return rig.device.disconnect()
                }
                while rig.device.admission == .admitting {
                    let context = submitted.wrappingAdd(1, ordering: .relaxed).newValue
                    rig.submitIn(context: UInt64(context))
                }
                // One more, which must be refused.
                rig.submitIn(context: UInt64(submitted.wrappingAdd(1, ordering: .relaxed).newValue))
            }
            expectOnceEach(rig, submitted.load(ordering: .relaxed))
            #expect(Set(rig.statuses) == [.noDevice])
            rig.expectAtRest()
        }
    }

    @Test("C40, C41, C42: submit and cancel against close: the backend's close is its last call")
    func submitClose() async throws {
        for _ in 0..<50 {
            let rig = try Rig(ScriptedBackend(always: .hold))
            let submitted = Atomic<Int>(0)
            let closing = Task {
                while submitted.load(ordering: .relaxed) < 5 { await Task.yield() }
                await rig.device.close()
            }
            await Threads.run(Self.threads) { _ in
                while rig.device.admission == .admitting {
                    let context = submitted.wrappingAdd(1, ordering: .relaxed).newValue
                    rig.device.cancel(rig.submitIn(context: UInt64(context)))
                }
            }
            await closing.value
            expectOnceEach(rig, submitted.load(ordering: .relaxed))
            #expect(Set(rig.statuses).isSubset(of: [.cancelled, .noDevice]))
            // ScriptedBackend counts calls after its close as failures.
            rig.expectAtRest()
        }
    }

    @Test("C24, C43: unplug, close and cancelAll at once")
    func unplugClose() async throws {
        for _ in 0..<50 {
            let rig = try Rig(ScriptedBackend(always: .hold))
            for context: UInt64 in 0..<8 { rig.submitIn(context: context) }
            await withTaskGroup(of: Void.self) { group in
                group.addTask { await rig.device.close() }
                group.addTask { await rig.device.close() }
                group.addTask {
                    await Threads.run(2) { index in
                        if index == 0 { rig.device.disconnect() } else { rig.device.cancelAll() }
                    }
                }
            }
            expectOnceEach(rig, 8)
            #expect(Set(rig.statuses).isSubset(of: [.cancelled, .noDevice]))
            rig.expectAtRest()
        }
    }

    @Test("C30, C31, C33: submit and complete against drain: what it waited for has been told")
    func submitDrain() async throws {
        let rig = try Rig(ScriptedBackend(always: .hold))
        let stop = Atomic<Bool>(false)
        let submitted = Atomic<Int>(0)
        let draining = Task {
            for _ in 0..<100 {
                #expect(await rig.device.drain(for: .seconds(30)) == 0)
                #expect(rig.backend.held.isEmpty)
                rig.device.resumeAdmitting()
                await Task.yield()
            }
            stop.store(true, ordering: .relaxed)
        }
        await Threads.run(3) { index in
            while !stop.load(ordering: .relaxed) {
                if index == 0 {
                    if !rig.backend.completeNext() { Threads.yield() }
                } else {
                    let context = submitted.wrappingAdd(1, ordering: .relaxed).newValue
                    rig.submitIn(context: UInt64(context))
                }
            }
        }
        await draining.value
        rig.backend.completeAll(.success)
        expectOnceEach(rig, submitted.load(ordering: .relaxed))
        #expect(Set(rig.statuses).isSubset(of: [.success, .busy]))
        rig.expectAtRest()
    }

    @Test("C60, C61: SET_INTERFACE against submit on an endpoint that comes and goes")
    func settingsSubmit() async throws {
        let rig = try Rig(ScriptedBackend(always: .complete()))
        await Threads.run(3) { index in
            for round in 0..<Self.rounds {
                if index == 0 {
                    rig.control(.setInterface(0, alternate: UInt16(round % 3)))
                } else {
                    rig.submitIn(0x85)
                }
            }
        }
        #expect(rig.handler.completions.count == 3 * Self.rounds)
        #expect(Set(rig.statuses).isSubset(of: [.success, .noEndpoint]))
        #expect(rig.device.settings.alternates == [InterfaceNumber(rawValue: 0): UInt8((Self.rounds - 1) % 3)])
        rig.expectAtRest()
    }

    @Test("C50, C51: submit against reset")
    func submitReset() async throws {
        let rig = try Rig(ScriptedBackend(always: .hold))
        let stop = Atomic<Bool>(false)
        let submitted = Atomic<Int>(0)
        let resetting = Task {
            for _ in 0..<50 { try await rig.device.reset() }
            stop.store(true, ordering: .relaxed)
        }
        await Threads.run(2) { _ in
            while !stop.load(ordering: .relaxed) {
                let context = submitted.wrappingAdd(1, ordering: .relaxed).newValue
                rig.submitIn(context: UInt64(context))
            }
        }
        try await resetting.value
        await rig.device.close()
        expectOnceEach(rig, submitted.load(ordering: .relaxed))
        // ENOMEM: two threads can fill the table between two resets.
        #expect(Set(rig.statuses).isSubset(of: [.shutdown, .busy, .noDevice, .noMemory]))
        rig.expectAtRest()
    }
}
