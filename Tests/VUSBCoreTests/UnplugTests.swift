// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBTestSupport

@Suite("Cancellation.md: unplug, drain, close", .timeLimit(.minutes(1)))
struct UnplugTests {
    @Test("C20: submit after the unplug ends with ENODEV and never reaches the backend")
    func submitAfterUnplug() throws {
        let rig = try Rig(ScriptedBackend())
        rig.device.disconnect()
        #expect(rig.submitIn() == .none)
        #expect(rig.statuses == [.noDevice])
        #expect(rig.device.admission == .closed(.noDevice))
        rig.expectAtRest()
    }

    @Test("C21: unplug while the backend's submit runs")
    func unplugWhileSubmitting() throws {
        let later = Later<VirtualDevice>()
        let backend = ScriptedBackend([
            .submit(.any, .run { _ in later.value?.disconnect() }), .cancel(.completeAsCancelled),
        ])
        let rig = try Rig(backend)
        later.value = rig.device
        rig.submitIn()
        #expect(rig.statuses == [.noDevice])
        later.value = nil
        rig.expectAtRest()
    }

    @Test("C22: unplug in flight: what ends as cancelled ends with ENODEV")
    func unplugInFlight() throws {
        let rig = try Rig(ScriptedBackend(always: .hold))
        rig.submitIn()
        rig.submitIn()
        rig.device.disconnect()
        #expect(rig.statuses == [.noDevice, .noDevice])
        #expect(rig.device.counters.failedURBs == 2)
        rig.expectAtRest()
    }

    @Test("C23: what was achieved before the unplug stays achieved")
    func achievedBeforeUnplug() throws {
        let script: [ScriptedBackend.Record] = [
            .submit(.any, .hold), .submit(.any, .hold), .cancel(.ignore), .cancel(.ignore),
        ]
        let rig = try Rig(ScriptedBackend(script))
        rig.submitIn()
        rig.submitIn()
        rig.device.disconnect()
        rig.backend.completeNext(data: [1])
        rig.backend.completeNext(.stall)
        #expect(rig.statuses == [.success, .stall])
        rig.expectAtRest()
    }

    @Test("C24: the source ends the URBs first, then says that the device is gone")
    func sourceEndsFirst() throws {
        let rig = try Rig(ScriptedBackend([.submit(.any, .hold)]))
        rig.submitIn()
        rig.backend.completeAll(.noDevice)
        rig.device.disconnect()
        #expect(rig.statuses == [.noDevice])
        rig.expectAtRest()
    }

    @Test("C25: cancelled, then unplugged: asked once, ends with ENODEV")
    func cancelledThenUnplugged() throws {
        let rig = try Rig(ScriptedBackend([.submit(.any, .hold), .cancel(.ignore)]))
        rig.device.cancel(rig.submitIn())
        rig.device.disconnect()
        rig.backend.completeNext(.cancelled)
        #expect(rig.statuses == [.noDevice])
        rig.expectAtRest()
    }

    @Test("C26: unplug during a drain ends it, and nothing admits again")
    func unplugDuringDrain() async throws {
        let rig = try Rig(ScriptedBackend(always: .hold))
        rig.submitIn()
        async let left = rig.device.drain(for: .seconds(30))
        while rig.device.admission == .admitting { await Task.yield() }
        rig.device.disconnect()
        #expect(await left == 0)
        rig.device.resumeAdmitting()
        #expect(rig.device.admission == .closed(.noDevice))
        rig.expectAtRest()
    }

    @Test("C30: submit while draining ends with EBUSY; those in flight go on")
    func submitWhileDraining() throws {
        let rig = try Rig(ScriptedBackend([.submit(.any, .hold), .submit(.any, .complete())]))
        rig.submitIn()
        rig.device.stopAdmitting()
        rig.submitIn()
        #expect(rig.statuses == [.busy])
        rig.backend.completeNext()
        rig.device.resumeAdmitting()
        rig.submitIn()
        #expect(rig.statuses == [.busy, .success, .success])
        rig.expectAtRest()
    }

    @Test("C31: a drain ends when the last handler has returned")
    func drainWaitsForTheHandler() async throws {
        let returned = Inbox<Bool>()
        let later = Later<VirtualDevice>()
        let handler = RecordingHandler { _ in
            #expect(later.value?.inFlight == 1)
            returned.append(true)
        }
        let rig = try Rig(ScriptedBackend(always: .hold), handler: handler)
        later.value = rig.device
        rig.submitIn()
        async let left = rig.device.drain(for: .seconds(30))
        while rig.device.admission == .admitting { await Task.yield() }
        rig.backend.completeNext()
        #expect(await left == 0)
        #expect(returned.count == 1)
        later.value = nil
        rig.expectAtRest()
    }

    @Test("C31: a drain of a device at rest ends at once")
    func drainAtRest() async throws {
        let rig = try Rig(ScriptedBackend())
        #expect(await rig.device.drain(for: .seconds(30)) == 0)
        #expect(rig.device.admission == .draining)
        rig.expectAtRest()
    }

    @Test("C32: at the deadline a drain says how many are left, and still doesn't admit")
    func drainDeadline() async throws {
        let rig = try Rig(ScriptedBackend(always: .hold))
        rig.submitIn()
        rig.submitIn()
        #expect(await rig.device.drain(for: .milliseconds(1)) == 2)
        #expect(rig.device.admission == .draining)
        rig.device.cancelAll()
        #expect(rig.statuses == [.cancelled, .cancelled])
        rig.expectAtRest()
    }

    @Test("C33: several drains at once all end")
    func severalDrains() async throws {
        let rig = try Rig(ScriptedBackend(always: .hold))
        rig.submitIn()
        let lefts = await withTaskGroup(of: Int.self) { group in
            for _ in 0..<4 { group.addTask { await rig.device.drain(for: .seconds(30)) } }
            while rig.device.admission == .admitting { await Task.yield() }
            rig.backend.completeNext()
            return await group.reduce(into: []) { $0.append($1) }
        }
        #expect(lefts == [0, 0, 0, 0])
        rig.expectAtRest()
    }

    @Test("C34: the drain of a cancelled task doesn't wait")
    func cancelledDrain() async throws {
        let rig = try Rig(ScriptedBackend(always: .hold))
        rig.submitIn()
        let task = Task { await rig.device.drain(for: .seconds(3600)) }
        task.cancel()
        #expect(await task.value == 1)
        rig.backend.completeNext()
        rig.expectAtRest()
    }
}
