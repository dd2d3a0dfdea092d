// SPDX-License-Identifier: Apache-2.0

internal import CFuse3
internal import Glibc
internal import Synchronization
package import VUSBCore

/// Drives a device as hostile openers may, for a fuzz target, which can't reach it otherwise.
package enum UsbfsFuzzing {
    /// Reads `input` as instructions: ioctls with the rest of it as the caller's memory, rounds that never come, ends of
    /// URBs, signals, time, quiet and end. Traps where a promise is broken: a request that isn't answered exactly once,
    /// a URB that doesn't complete, memory that is lost.
    package static func run(_ input: [UInt8], descriptors: Descriptors) {
        let rig = UsbfsFuzzRig(descriptors)
        var stream = FuzzStream(input)
        // More steps than that find nothing new, only more slowly.
        for _ in 0..<256 where !stream.isEmpty { rig.step(&stream) }
        rig.end()
    }
}

/// Concurrency model: the fuzzer's one thread; each `Mutex` is for the compiler.
private final class UsbfsFuzzRig: UsbfsClock {
    let kernel = UsbfsFuzzKernel()
    let backend = FuzzBackend(isHolding: true)
    let device: VirtualDevice
    private let wakes = Mutex<[UsbfsSession]>([])
    private let parts = Mutex<Parts?>(nil)

    private struct Parts {
        var node: UsbfsNode
        var openers: [UsbfsSession] = []
    }

    init(_ descriptors: Descriptors) {
        device = VirtualDevice(
            backend: backend, descriptors: descriptors, speed: .super,
            configurationValue: descriptors.configurations.first?.bConfigurationValue ?? 0,
            pool: BufferPool(cacheLimit: 0))
    }

    func wake(_ session: UsbfsSession, at deadline: ContinuousClock.Instant) {
        wakes.withLock { $0.append(session) }
    }

    private var node: UsbfsNode {
        if let node = parts.withLock({ $0?.node }) { return node }
        let identity = UsbfsNode.Identity(busNumber: 1, deviceNumber: 2, ports: [1])
        let node = UsbfsNode(device, identity, clock: self) {}
        parts.withLock { $0 = Parts(node: node) }
        return node
    }

    private func opener(_ choice: UInt8) -> UsbfsSession? {
        let node = node
        let openers = parts.withLock { $0?.openers ?? [] }
        if openers.count < 3 { _ = kernel.request { node.open($0, isWritable: choice & 0x80 == 0) } }
        let sessions = node.sessions.sorted { $0.id < $1.id }
        parts.withLock { $0?.openers = sessions }
        return sessions.isEmpty ? nil : sessions[Int(choice) % sessions.count]
    }

    func step(_ stream: inout FuzzStream) {
        let choice = stream.byte()
        guard let session = opener(choice) else { return }
        switch choice >> 3 & 15 {
        case 0...6: call(session, &stream)
        case 7: kernel.goOn(drop: stream.byte() & 1 == 0)
        case 8...9: backend.completeOne(stream.byte())
        case 10: backend.isHolding.toggle()
        case 11: for request in kernel.waiting { session.interrupted(request) }
        case 12: passTime()
        case 13:
            _ = kernel.request { session.poll($0, nil) }
            _ = kernel.request { session.read($0, size: Int(stream.byte())) }
        case 14: control(stream.byte())
        default: _ = kernel.request { session.release($0) }
        }
        precondition(node.memoryInUse <= UsbfsABI.memoryLimit)
    }

    private func call(_ session: UsbfsSession, _ stream: inout FuzzStream) {
        let known = Self.numbers[Int(stream.byte()) % Self.numbers.count]
        let number = known ?? UInt32(stream.word()) << 16 | UInt32(stream.word())
        kernel.fill(&stream)
        kernel.isHolding = stream.byte() & 15 == 0
        kernel.begin(session, number, UsbfsFuzzKernel.base + UInt64(stream.byte() & 7) * 64)
        kernel.isHolding = false
    }

    private func control(_ choice: UInt8) {
        switch choice & 15 {
        case 0...2: node.quiet()
        case 14: device.disconnect()
        case 15: node.end()
        default: node.resume()
        }
    }

    private func passTime() {
        let due = wakes.withLock { wakes in
            defer { wakes = [] }
            return wakes
        }
        for session in due { _ = session.checkTime(.now + .seconds(86_400)) }
    }

    /// Whatever happened, nothing is left.
    func end() {
        let node = node
        node.resume()
        kernel.goOn(drop: false)
        for session in node.sessions { _ = kernel.request { session.release($0) } }
        while backend.completeOne(0) {}
        node.end()
        passTime()
        while backend.completeOne(0) {}
        precondition(kernel.waiting.isEmpty)
        precondition(node.sessions.isEmpty && node.memoryInUse == 0)
        precondition(device.inFlight == 0 && device.pool.outstanding == 0)
        precondition(backend.isBalanced)
        parts.withLock { $0 = nil }
    }

    /// All that there are but RESET, which is done by a task; nil is any number.
    private static let numbers: [UInt32?] = [
        0x8038_550a, 0x8038_550a, 0x8038_550a, 0x802c_550a, 0x4008_550d, 0x4008_550d, 0x4008_550c, 0x4004_550d,
        0x0000_550b, 0xc018_5500, 0xc010_5500, 0xc018_5502, 0xc010_5502, 0x8004_5503, 0x8008_5504, 0x8004_5505,
        0x4104_5508, 0x8004_550f, 0x8004_5510, 0x4008_5511, 0xc010_5512, 0x8004_5515, 0x8004_551a, 0x8108_551b,
        0x8008_551c, 0x8008_551d, 0x4004_551e, 0x0000_551f, 0x8018_5520, nil,
    ]
}

/// Plays CUSE with a little of a caller's memory.
private final class UsbfsFuzzKernel: UsbfsAnswering {
    fileprivate struct Call {
        var session: UsbfsSession?
        var number: UInt32 = 0
        var argument: UInt64 = 0
        var held: CallerRanges?
    }

    fileprivate struct State {
        var calls: [UInt: Call] = [:]
        var last: UInt = 0
        var memory: [UInt8] = Array(repeating: 0, count: UsbfsFuzzKernel.size)
        var isHolding = false
    }

    static let base: UInt64 = 0x1000
    static let size = 256 << 10
    private let state = Mutex(State())

    var isHolding: Bool {
        get { state.withLock { $0.isHolding } }
        set { state.withLock { $0.isHolding = newValue } }
    }

    /// Requests that aren't answered.
    var waiting: [UInt] { state.withLock { state in state.calls.filter { $0.value.held == nil }.keys.sorted() } }

    /// Structures begin as the fuzzer says; pointers in them are made to hit, mostly.
    func fill(_ stream: inout FuzzStream) {
        var bytes = (0..<(8 + 8 * Int(stream.byte() & 15))).map { _ in stream.byte() }
        for offset in [12, 16] where bytes.count >= offset + 8 && bytes[offset] & 3 != 0 {
            // 0x2000 in either form.
            bytes.replaceSubrange(offset..<offset + 8, with: [0, 0x20, 0, 0, 0, 0, 0, 0])
        }
        // Lengths for which one round isn't enough, of which hardly any would be met by chance.
        if bytes.count >= 28, bytes[24] & 7 == 1 {
            bytes.replaceSubrange(24..<28, with: [bytes[25], bytes[26] & 0x7f, 2 + (bytes[27] & 1), 0])
        }
        let place = Int(stream.byte() & 7) * 64
        state.withLock { $0.memory.replaceSubrange(place..<place + bytes.count, with: bytes) }
    }

    func request(_ then: (consuming UsbfsReply) -> Void) -> UInt {
        let id = state.withLock { state in
            state.last += 1
            state.calls[state.last] = Call()
            return state.last
        }
        then(UsbfsReply(self, id, caller: Int32(id % 3)))
        return id
    }

    func begin(_ session: UsbfsSession, _ number: UInt32, _ argument: UInt64) {
        guard number != 0x0000_5514 else { return }
        _ = request { reply in
            state.withLock { state in
                state.calls[state.last] = Call(session: session, number: number, argument: argument)
            }
            let nothing: [UInt8] = []
            session.control(reply, number: number, argument: argument, input: nothing.span, outCount: 0)
        }
    }

    /// The next rounds of all that were held back; or their callers have died.
    func goOn(drop: Bool) {
        let held = state.withLock { state in state.calls.filter { $0.value.held != nil } }
        for (id, call) in held.sorted(by: { $0.key < $1.key }) {
            state.withLock { state in state.calls[id]?.held = nil }
            if drop { end(id) } else if let ranges = call.held { answerAgain(id, ranges) }
        }
    }

    private func end(_ id: UInt) {
        let had = state.withLock { $0.calls.removeValue(forKey: id) }
        precondition(had != nil, "a request was answered twice")
    }

    func answer(_ request: UInt, error: Int32) { end(request) }

    func answerOpen(_ request: UInt, handle: UInt64) -> Bool {
        end(request)
        return true
    }

    func answerRead(_ request: UInt, _ bytes: ArraySlice<UInt8>) { end(request) }
    func answerPoll(_ request: UInt, events: UInt32) { end(request) }

    @unsafe
    func answerControl(_ request: UInt, result: Int32, _ parts: UnsafeBufferPointer<iovec>) {
        // All is read, as the kernel does: an address sanitizer looks.
        var sum: UInt8 = 0
        for index in parts.indices {
            let bytes = unsafe UnsafeRawBufferPointer(start: parts[index].iov_base, count: parts[index].iov_len)
            for index in bytes.indices { sum = unsafe sum &+ bytes[index] }
        }
        end(request)
        withExtendedLifetime(sum) {}
    }

    func answerAgain(_ request: UInt, _ ranges: CallerRanges) {
        let (call, input) = state.withLock { state -> (Call?, [UInt8]?) in
            guard let call = state.calls[request] else { return (nil, nil) }
            if state.isHolding {
                state.calls[request]?.held = ranges
                return (call, nil)
            }
            return (call, state.copyIn(ranges))
        }
        guard let call else { preconditionFailure("another round of what was answered") }
        if state.withLock({ $0.calls[request]?.held != nil }) { return }
        guard let session = call.session, let input else { return end(request) }
        // As CUSE has it.
        precondition(input.count <= 128 << 10 && ranges.outBytes <= 128 << 10)
        session.control(
            UsbfsReply(self, request, caller: Int32(request % 3)), number: call.number, argument: call.argument,
            input: input.span, outCount: ranges.outBytes)
    }

    func watchInterrupts(_ request: UInt, of session: UInt64) {}
}

extension UsbfsFuzzKernel.State {
    /// Nil for a fault.
    fileprivate func copyIn(_ ranges: CallerRanges) -> [UInt8]? {
        var input: [UInt8] = []
        for index in 0..<ranges.inCount {
            let range = ranges[index]
            let start = range.start &- UsbfsFuzzKernel.base
            guard range.start >= UsbfsFuzzKernel.base, start <= UInt64(memory.count),
                Int(start) + range.count <= memory.count
            else { return nil }
            input += memory[Int(start)..<Int(start) + range.count]
        }
        return input
    }
}
