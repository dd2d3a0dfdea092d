// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBTestSupport

/// The rows of Cancellation.md, one by one, on one thread: what the script says comes in between.
@Suite("Cancellation.md: submit, complete, cancel", .timeLimit(.minutes(1)))
struct CancellationTests {
    @Test("C1: complete after submit has returned")
    func completeAfterSubmit() throws {
        let rig = try Rig(ScriptedBackend([.submit(.in(0x81, 64), .hold)]))
        let token = rig.submitIn(context: 7)
        #expect(token != .none)
        #expect(rig.device.inFlight == 1)
        #expect(rig.device.inFlight(on: EndpointAddress(rawValue: 0x81)) == 1)
        #expect(rig.handler.completions.isEmpty)
        rig.backend.completeNext(data: [1, 2, 3])
        let completion = try #require(rig.handler.completions.first)
        #expect(completion.status == .success)
        #expect(completion.bytes == [1, 2, 3])
        #expect(completion.token == token)
        #expect(completion.context == 7)
        rig.expectAtRest()
    }

    @Test("C2: complete within submit: the token is stale when it's returned")
    func completeWithinSubmit() throws {
        let rig = try Rig(ScriptedBackend([.submit(.any, .complete(data: [9]))]))
        let token = rig.submitIn()
        #expect(rig.statuses == [.success])
        rig.device.cancel(token)
        rig.expectAtRest()
    }

    @Test("C3: refused: the handler is called within submit, the backend isn't")
    func refused() throws {
        let rig = try Rig(ScriptedBackend())
        #expect(rig.submitIn(0x8f) == .none)
        #expect(rig.statuses == [.noEndpoint])
        rig.expectAtRest()
    }

    @Test("C3: refused at the limit of URBs in flight")
    func refusedAtTheLimit() throws {
        let rig = try Rig(ScriptedBackend(always: .hold))
        for _ in 0..<4096 { rig.submitIn(count: 0) }
        #expect(rig.statuses == [])
        #expect(rig.submitIn(count: 0) == .none)
        #expect(rig.statuses == [.noMemory])
        rig.backend.completeAll(.success)
        #expect(rig.submitIn(count: 0) != .none)
        rig.backend.completeAll(.success)
        #expect(rig.handler.completions.count == 4098)
        rig.expectAtRest()
    }

    @Test("C3: refused at the limit of bytes in flight, admitted again when some have completed")
    func refusedAtTheLimitOfBytes() throws {
        let rig = try Rig(ScriptedBackend(always: .hold))
        for _ in 0..<16 { rig.submitIn(count: 1 << 20) }
        #expect(rig.statuses == [])
        #expect(rig.submitIn(count: 1) == .none)
        #expect(rig.statuses == [.noMemory])
        rig.backend.completeAll(.success)
        #expect(rig.submitIn(count: 1 << 20) != .none)
        rig.backend.completeAll(.success)
        rig.expectAtRest()
    }

    /// Drops each URB: a backend that breaks its promise.
    private final class DroppingBackend: USBBackend {
        func submit(_ urb: consuming URB) {}
        func cancel(_ token: URBToken) {}
        func reset() async throws(USBError) {}
        func close() async {}
    }

    @Test("C4: a URB that its backend drops ends with EIO")
    func droppedByTheBackend() throws {
        let pool = BufferPool()
        let handler = RecordingHandler()
        let device = SampleDevice.attach(DroppingBackend(), descriptors: try SampleDevice.zero(), pool: pool)
        device.submit(TestURB.in(EndpointAddress(rawValue: 0x81), count: 8, pool: pool, handler: handler, context: 5))
        #expect(handler.completions.map(\.status) == [.io])
        #expect(handler.completions.map(\.context) == [5])
        #expect(device.inFlight == 0)
        #expect(pool.outstanding == 0)
    }

    @Test("C5: cancelled while the backend's submit runs: asked when that has returned")
    func cancelledWhileSubmitting() throws {
        let later = Later<Rig>()
        let backend = ScriptedBackend([
            .submit(
                .any,
                .run { _ in
                    later.value?.device.cancelAll()
                    // Not yet: the backend doesn't have to know the token before it has returned.
                    #expect(later.value?.statuses == [])
                }
            ),
            .cancel(.completeAsCancelled),
        ])
        let rig = try Rig(backend)
        later.value = rig
        rig.submitIn()
        #expect(rig.statuses == [.cancelled])
        later.value = nil
        rig.expectAtRest()
    }

    @Test("C6: cancelled and then complete while the backend's submit runs: it's never asked")
    func cancelledAndCompleteWhileSubmitting() throws {
        let later = Later<Rig>()
        let backend = ScriptedBackend([
            .submit(
                .any,
                .run { held in
                    later.value?.device.cancelAll()
                    held.complete(data: [1])
                }
            )
        ])
        let rig = try Rig(backend)
        later.value = rig
        rig.submitIn()
        #expect(rig.statuses == [.success])
        later.value = nil
        rig.expectAtRest()
    }

    @Test("C7: cancelled in flight: ends as cancelled")
    func cancelledInFlight() throws {
        let rig = try Rig(ScriptedBackend([.submit(.any, .hold), .cancel(.completeAsCancelled)]))
        rig.device.cancel(rig.submitIn())
        #expect(rig.statuses == [.cancelled])
        rig.expectAtRest()
    }

    @Test("C8: the cancel is too late: ends with what it achieved")
    func cancelTooLate() throws {
        let rig = try Rig(ScriptedBackend([.submit(.any, .hold), .cancel(.ignore)]))
        rig.device.cancel(rig.submitIn())
        #expect(rig.statuses == [])
        #expect(rig.device.inFlight == 1)
        rig.backend.completeNext(data: [1, 2])
        #expect(rig.handler.completions.map(\.actualLength) == [2])
        #expect(rig.statuses == [.success])
        rig.expectAtRest()
    }

    @Test("C9: cancelled from inside its own handler: nothing is asked")
    func cancelledFromItsHandler() throws {
        let later = Later<VirtualDevice>()
        let handler = RecordingHandler { completion in
            later.value?.cancel(completion.token)
            later.value?.cancelAll()
            #expect(later.value?.inFlight == 1)
        }
        let rig = try Rig(ScriptedBackend([.submit(.any, .hold)]), handler: handler)
        later.value = rig.device
        rig.submitIn()
        rig.backend.completeNext()
        #expect(rig.statuses == [.success])
        later.value = nil
        rig.expectAtRest()
    }

    @Test("C10: a stale token misses the next URB in the same slot")
    func staleTokenMisses() throws {
        let rig = try Rig(ScriptedBackend([.submit(.any, .complete()), .submit(.any, .hold)]))
        let stale = rig.submitIn()
        let current = rig.submitIn()
        #expect(stale.index == current.index)
        #expect(stale != current)
        rig.device.cancel(stale)
        rig.device.cancel(.none)
        rig.device.cancel(URBToken(index: 4000, generation: 1))
        #expect(rig.device.inFlight == 1)
        rig.backend.completeNext()
        rig.expectAtRest()
    }

    @Test("C11: cancelled twice: the backend is asked once")
    func cancelledTwice() throws {
        let rig = try Rig(ScriptedBackend([.submit(.any, .hold), .cancel(.ignore)]))
        let token = rig.submitIn()
        rig.device.cancel(token)
        rig.device.cancel(token)
        rig.device.cancelAll()
        rig.backend.completeNext(.cancelled)
        #expect(rig.statuses == [.cancelled])
        rig.expectAtRest()
    }

    @Test("C12: a front's handle is closed: its URBs end, those of others go on")
    func frontCloses() throws {
        let rig = try Rig(ScriptedBackend(always: .hold))
        let mine = (0..<3).map { rig.submitIn(context: $0) }
        rig.submitIn(context: 99)
        for token in mine { rig.device.cancel(token) }
        #expect(rig.handler.completions.map(\.context) == [0, 1, 2])
        #expect(rig.statuses == [.cancelled, .cancelled, .cancelled])
        #expect(rig.device.inFlight == 1)
        rig.backend.completeNext()
        rig.expectAtRest()
    }
}
