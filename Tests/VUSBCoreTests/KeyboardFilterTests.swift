// SPDX-License-Identifier: Apache-2.0

import Synchronization
import Testing
import VUSBCore
import VUSBTestSupport

/// A keyboard that a guest has, with a chord of two ScrollLocks and a digit.
private struct Desk: Sendable {
    let backend: ScriptedBackend
    let digits = Inbox<UInt8>()
    let pool = BufferPool()
    let handler: RecordingHandler
    let device: VirtualDevice

    static let tap = report([0x47])
    static let released = report([])
    static func report(_ keys: [UInt8]) -> [UInt8] {
        [0, 0] + keys + Array(repeating: 0, count: 6 - keys.count)
    }

    /// - Parameter window: how long a tap is held back; long where nothing is to be over by itself.
    init(
        _ backend: ScriptedBackend = ScriptedBackend(always: .hold), window: Duration = .seconds(600),
        handler: RecordingHandler = RecordingHandler()
    ) throws {
        self.backend = backend
        self.handler = handler
        var definition = KeyboardChord.Definition.standard
        definition.window = window
        definition.digitWindow = window
        let descriptors = try Descriptors(parsing: SampleDevice.keyboardBytes)
        let keyboard = KeyboardFilter(definition, descriptors, configurationValue: 1) { [digits] in digits.append($0) }
        device = SampleDevice.attach(
            backend, descriptors: descriptors, speed: .low, pool: pool, keyboard: keyboard)
    }

    @discardableResult
    func read(_ context: UInt64 = 0, count: Int = 8, flags: URB.Flags = []) -> URBToken {
        var urb = TestURB.in(
            EndpointAddress(rawValue: 0x81), count: count, pool: pool, handler: handler, context: context)
        urb.flags = flags
        return device.submit(urb)
    }

    func send(_ reports: [UInt8]...) { for report in reports { backend.completeNext(data: report) } }

    var seen: [[UInt8]] { handler.completions.map(\.bytes) }
    var statuses: [URBStatus] { handler.completions.map(\.status) }

    func finish(sourceLocation: SourceLocation = #_sourceLocation) async {
        await device.close()
        #expect(device.inFlight == 0, sourceLocation: sourceLocation)
        #expect(pool.outstanding == 0, sourceLocation: sourceLocation)
        #expect(backend.verify() == [], sourceLocation: sourceLocation)
    }
}

/// KeyboardChord.md, K20 to K30.
@Suite("A chord on its way through a device", .timeLimit(.minutes(1))) struct KeyboardFilterTests {
    @Test("a key goes through as it is (K21)")
    func key() async throws {
        let desk = try Desk()
        desk.read()
        desk.send(Desk.report([4]))
        #expect(desk.seen == [Desk.report([4])])
        await desk.finish()
    }

    @Test("nothing of a chord reaches the guest: its URB goes to the source again and again (K20, K29)")
    func chord() async throws {
        let desk = try Desk()
        let token = desk.read()
        desk.send(Desk.tap, Desk.released, Desk.tap, Desk.released, Desk.report([0x1f]))
        #expect(desk.digits.elements == [2])
        #expect(desk.seen.isEmpty)
        #expect(desk.device.inFlight == 1)
        desk.send(Desk.released)
        #expect(desk.seen.isEmpty)
        desk.send(Desk.report([4]))
        #expect(desk.seen == [Desk.report([4])])
        #expect(desk.handler.completions.first?.token == token)
        await desk.finish()
    }

    @Test("with a modifier held the guest sees all released before the chord (K29)")
    func modifier() async throws {
        let desk = try Desk()
        let shift: [UInt8] = [2, 0, 0, 0, 0, 0, 0, 0]
        func shifted(_ key: UInt8) -> [UInt8] { [2, 0, key, 0, 0, 0, 0, 0] }
        desk.read()
        desk.send(shift)
        desk.read()
        desk.send(shifted(0x47), shift, shifted(0x47), shift, shifted(0x1e))
        #expect(desk.seen == [shift, Desk.released])
        #expect(desk.digits.elements == [1])
        await desk.finish()
    }

    @Test("what is no chord comes with the URBs that follow, in order (K22)")
    func replay() async throws {
        let desk = try Desk()
        desk.read(0)
        desk.send(Desk.tap, Desk.released, Desk.report([4]))
        #expect(desk.seen == [Desk.tap])
        desk.read(1)
        desk.read(2)
        #expect(desk.seen == [Desk.tap, Desk.released, Desk.report([4])])
        desk.read(3)
        desk.send(Desk.released)
        #expect(desk.seen.last == Desk.released)
        #expect(desk.handler.completions.map(\.context) == [0, 1, 2, 3])
        await desk.finish()
    }

    @Test("when the time is over the source is asked for a URB, and what was withheld comes with it (K23)")
    func late() async throws {
        let desk = try Desk(window: .milliseconds(1))
        desk.read(0)
        desk.send(Desk.tap)
        _ = await desk.handler.wait(for: 1)
        #expect(desk.seen == [Desk.tap])
        #expect(desk.statuses == [.success])
        desk.read(1)
        desk.send(Desk.released)
        #expect(desk.seen == [Desk.tap, Desk.released])
        await desk.finish()
    }

    @Test("a guest's own cancel is one, with something withheld too (K24, K25)", arguments: [false, true])
    func cancelled(isOver: Bool) async throws {
        let backend = ScriptedBackend([
            .submit(.in(0x81, 8), .hold), .submit(.in(0x81, 8), .hold), .cancel(.ignore),
        ])
        let desk = try Desk(backend)
        let token = desk.read(0)
        desk.send(Desk.tap)
        desk.device.cancel(token)
        if isOver { desk.device.stopAdmitting() }
        backend.completeNext(.cancelled)
        #expect(desk.statuses == [.cancelled])
        desk.device.resumeAdmitting()
        // What is withheld is there for the next.
        desk.device.stopAdmitting()
        desk.device.resumeAdmitting()
        desk.read(1)
        #expect(desk.statuses == [.cancelled, .success])
        #expect(desk.seen.last == Desk.tap)
        await desk.finish()
    }

    @Test("a report that comes with a cancel is withheld, and the URB ends as cancelled (K24)")
    func bothAtOnce() async throws {
        let backend = ScriptedBackend([.submit(.in(0x81, 8), .hold), .cancel(.ignore)])
        let desk = try Desk(backend)
        let token = desk.read(0)
        desk.device.cancel(token)
        desk.send(Desk.tap)
        #expect(desk.statuses == [.cancelled])
        #expect(desk.handler.completions.first?.actualLength == 0)
        await desk.finish()
    }

    @Test("a drain gives what is withheld to the URBs that are in flight (K27)")
    func drain() async throws {
        let desk = try Desk()
        desk.read(0)
        desk.send(Desk.tap)
        #expect(await desk.device.drain(for: .seconds(20)) == 0)
        #expect(desk.seen == [Desk.tap])
        await desk.finish()
    }

    @Test("a close while something is withheld ends all (K28)")
    func close() async throws {
        let desk = try Desk()
        desk.read(0)
        desk.read(1)
        desk.send(Desk.tap)
        await desk.finish()
        #expect(desk.handler.completions.count == 2)
    }

    @Test("a reset drops what is withheld (K26)")
    func reset() async throws {
        let desk = try Desk()
        desk.read(0)
        desk.send(Desk.tap)
        try await desk.device.reset()
        #expect(desk.statuses == [.shutdown])
        desk.read(1)
        desk.send(Desk.report([4]))
        #expect(desk.seen.last == Desk.report([4]))
        await desk.finish()
    }

    @Test("a report that doesn't fit into the URB is babble, as from the keyboard")
    func short() async throws {
        let desk = try Desk()
        desk.read(0)
        desk.send(Desk.tap, Desk.report([4]))
        desk.read(1, count: 4)
        #expect(desk.statuses == [.success, .babble])
        await desk.finish()
    }

    @Test("who asks for longer reports, and minds short ones, sees nothing of a chord either")
    func shortNotOK() async throws {
        let desk = try Desk()
        desk.read(0, count: 64, flags: .shortNotOK)
        desk.send(Desk.tap, Desk.released, Desk.tap, Desk.released, Desk.report([0x1e]))
        #expect(desk.digits.elements == [1])
        #expect(desk.seen.isEmpty)
        desk.send(Desk.released, Desk.tap, Desk.report([4]))
        #expect(desk.statuses == [.shortNotOK])
        desk.read(1, count: 64, flags: .shortNotOK)
        #expect(desk.statuses == [.shortNotOK, .shortNotOK])
        await desk.finish()
    }

    @Test("a device without a boot keyboard has no filter")
    func others() throws {
        #expect(KeyboardFilter(.standard, try SampleDevice.zero(), configurationValue: 1) { _ in } == nil)
    }

    @Test("whoever wins: each URB ends once, and no report is lost or comes twice (K23 to K25, K30)")
    func races() async throws {
        let desk = try Desk(window: .microseconds(200))
        let (rounds, tokens) = (600, Inbox<URBToken>())
        let isOver = Atomic(false)
        await Threads.run(4) { index in
            switch index {
            case 0:
                for round in 0..<rounds {
                    tokens.append(desk.read(UInt64(round)))
                    while desk.device.inFlight > 3 { Threads.yield() }
                }
                while desk.handler.completions.count < rounds { Threads.yield() }
                isOver.store(true, ordering: .releasing)
            case 1:
                var isDown = false
                while !isOver.load(ordering: .acquiring) {
                    if desk.backend.completeNext(data: isDown ? Desk.released : Desk.tap) { isDown.toggle() }
                    Threads.yield()
                }
            case 2:
                for next in stride(from: 0, to: rounds, by: 5) {
                    while tokens.count <= next { Threads.yield() }
                    desk.device.cancel(tokens.elements[next])
                }
            default:
                while !isOver.load(ordering: .acquiring) {
                    desk.device.stopAdmitting()
                    desk.device.resumeAdmitting()
                    Threads.yield()
                }
            }
        }
        let completions = desk.handler.completions
        #expect(Set(completions.map(\.context)).count == rounds)
        #expect(completions.count == rounds)
        #expect(completions.allSatisfy { [.success, .cancelled, .busy].contains($0.status) })
        await desk.finish()
    }
}
