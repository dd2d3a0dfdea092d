// SPDX-License-Identifier: Apache-2.0

import CFuse3
import Glibc
import Synchronization
import VUSBCore
import VUSBTestSupport

@testable import VUSBCharDevice

/// Plays CUSE and a caller's memory: carries out the rounds of an ioctl, copies in before and out after.
///
/// Concurrency model: any thread answers. State is in one `Mutex`, left before the session is called.
final class FakeKernel: UsbfsAnswering {
    enum Outcome: Equatable {
        case result(Int32)
        case error(Int32)
    }

    struct Call {
        var session: UsbfsSession?
        var number: UInt32 = 0
        var argument: UInt64 = 0
        var caller: Int32 = 1
        var out: [CallerRange] = []
        var rounds = 0
        var outcome: Outcome?
        var bytes: [UInt8] = []
        var isWatched = false
        /// A round after so many isn't begun until `goOn`; nil: all are.
        var heldAfter: Int?
        var held: CallerRanges?
    }

    private struct State {
        var calls: [UInt: Call] = [:]
        var last: UInt = 0
        var memory: [UInt8] = Array(repeating: 0, count: FakeKernel.size)
    }

    /// The caller's memory: `size` bytes from here on, and nothing else.
    static let base: UInt64 = 0x10_0000
    static let size = 2 << 20

    private let state = Mutex(State())
    /// Requests that were answered for good, in order.
    let ended = Inbox<UInt>()

    // MARK: - The caller's memory

    func write(_ bytes: [UInt8], at address: UInt64) {
        state.withLock { state in
            let start = Int(address - Self.base)
            state.memory.replaceSubrange(start..<start + bytes.count, with: bytes)
        }
    }

    func read(_ address: UInt64, _ count: Int) -> [UInt8] {
        state.withLock { state in
            let start = Int(address - Self.base)
            return Array(state.memory[start..<start + count])
        }
    }

    func i32(_ address: UInt64) -> Int32 {
        Int32(bitPattern: read(address, 4).reversed().reduce(UInt32(0)) { $0 << 8 | UInt32($1) })
    }

    // MARK: - Calls

    /// Begins a request; `then` gets its token.
    func request(_ call: Call = Call(), _ then: (consuming UsbfsReply) -> Void) -> UInt {
        let id = state.withLock { state in
            state.last += 1
            state.calls[state.last] = call
            return state.last
        }
        then(UsbfsReply(self, id, caller: call.caller))
        return id
    }

    /// Begins an ioctl, and does all rounds of it that can be done now.
    @discardableResult
    func ioctl(
        _ session: UsbfsSession, _ number: UInt32, _ argument: UInt64, caller: Int32 = 1, heldAfter: Int? = nil
    ) -> UInt {
        var call = Call()
        (call.session, call.number, call.argument, call.caller) = (session, number, argument, caller)
        call.heldAfter = heldAfter
        return request(call) { reply in
            let nothing: [UInt8] = []
            session.control(reply, number: number, argument: argument, input: nothing.span, outCount: 0)
        }
    }

    /// Begins the round that was held back.
    func goOn(_ id: UInt) {
        let ranges = state.withLock { state in
            state.calls[id]?.heldAfter = nil
            return state.calls[id]?.held.take()
        }
        if let ranges { answerAgain(id, ranges) }
    }

    func outcome(_ id: UInt) -> Outcome? { state.withLock { $0.calls[id]?.outcome } }
    func call(_ id: UInt) -> Call? { state.withLock { $0.calls[id] } }

    private func end(_ id: UInt, _ outcome: Outcome, _ bytes: [UInt8] = []) {
        let isFirst = state.withLock { state in
            let isFirst = state.calls[id]?.outcome == nil
            state.calls[id]?.outcome = outcome
            state.calls[id]?.bytes = bytes
            return isFirst
        }
        precondition(isFirst, "a request was answered twice")
        ended.append(id)
    }

    // MARK: - UsbfsAnswering

    func answer(_ request: UInt, error: Int32) { end(request, error == 0 ? .result(0) : .error(error)) }

    func answerOpen(_ request: UInt, handle: UInt64) -> Bool {
        end(request, .result(Int32(handle)))
        return true
    }

    func answerRead(_ request: UInt, _ bytes: ArraySlice<UInt8>) {
        end(request, .result(Int32(bytes.count)), Array(bytes))
    }

    func answerPoll(_ request: UInt, events: UInt32) { end(request, .result(Int32(events))) }

    func answerAgain(_ request: UInt, _ ranges: CallerRanges) {
        enum Next {
            case held
            case fault
            case round(Call, [UInt8])
        }
        let next = state.withLock { state -> Next in
            if let call = state.calls[request], let limit = call.heldAfter, call.rounds >= limit {
                state.calls[request]?.held = ranges
                return .held
            }
            var input: [UInt8] = []
            for index in 0..<ranges.inCount {
                guard let bytes = Self.slice(state.memory, ranges[index]) else { return .fault }
                input += bytes
            }
            state.calls[request]?.out = (ranges.inCount..<ranges.count).map { ranges[$0] }
            state.calls[request]?.rounds += 1
            return state.calls[request].map { .round($0, input) } ?? .held
        }
        switch next {
        case .held: break
        case .fault: end(request, .error(EFAULT))
        case .round(let call, let input):
            // As CUSE has it: 32 pages.
            precondition(input.count <= 128 << 10 && ranges.outBytes <= 128 << 10)
            call.session?.control(
                UsbfsReply(self, request, caller: call.caller), number: call.number, argument: call.argument,
                input: input.span, outCount: ranges.outBytes)
        }
    }

    private static func slice(_ memory: [UInt8], _ range: CallerRange) -> ArraySlice<UInt8>? {
        if range.count == 0 { return [] }
        guard range.start >= base, range.start - base <= UInt64(size), Int(range.start - base) + range.count <= size
        else { return nil }
        let start = Int(range.start - base)
        return memory[start..<start + range.count]
    }

    func answerControl(_ request: UInt, result: Int32, _ parts: UnsafeBufferPointer<iovec>) {
        var bytes: [UInt8] = []
        for index in parts.indices {
            unsafe bytes += UnsafeRawBufferPointer(start: parts[index].iov_base, count: parts[index].iov_len)
        }
        let isFault = state.withLock { state in
            var left = bytes[...]
            for range in state.calls[request]?.out ?? [] {
                let piece = left.prefix(range.count)
                if piece.isEmpty { break }
                guard Self.slice(state.memory, CallerRange(start: range.start, count: piece.count)) != nil else {
                    return true
                }
                let start = Int(range.start - Self.base)
                state.memory.replaceSubrange(start..<start + piece.count, with: piece)
                left = left.dropFirst(piece.count)
            }
            precondition(left.isEmpty, "more was written than there is room for")
            return false
        }
        end(request, isFault ? .error(EFAULT) : .result(result), bytes)
    }

    func watchInterrupts(_ request: UInt, of session: UInt64) {
        let early = state.withLock { state in
            state.calls[request]?.isWatched = true
            return state.calls[request]
        }
        if let early, early.argument == Self.interruptedEarly { early.session?.interrupted(request) }
    }

    /// An argument whose request is interrupted while it's being put away.
    static let interruptedEarly = base + 0xe000
}
