// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Synchronization
internal import VUSBCore

/// The OUT data of a SUBMITURB that come in several rounds (U24).
///
/// Concurrency model: it belongs to its session, whose `Mutex` guards it; who has taken it out of there has it alone.
final class UsbfsOutData: @unchecked Sendable {
    // SAFETY: see the concurrency model.
    let caller: Int32
    let argument: UInt64
    let urb: UsbfsURB
    var buffer: TransferBuffer?
    /// Bytes that have come.
    private(set) var filled = 0

    init(_ urb: UsbfsURB, _ context: UsbfsContext, caller: Int32, _ buffer: consuming TransferBuffer) {
        self.urb = urb
        argument = context.argument
        self.caller = caller
        self.buffer = consume buffer
    }

    /// As that of the URB that it becomes.
    var cost: Int { Self.cost(of: urb) }
    static func cost(of urb: UsbfsURB) -> Int { Int(urb.bufferLength) + UsbfsURBSlot.overhead }

    /// Bytes that the next round is to bring, and where the caller has them.
    var wanted: CallerRange {
        CallerRange(
            start: urb.buffer &+ UInt64(filled), count: min(Int(urb.bufferLength) - filled, UsbfsABI.dataLimit))
    }

    /// - Parameter data: as many bytes as were wanted.
    func take(_ data: Span<UInt8>) {
        precondition(data.count == wanted.count)
        // SAFETY: the span's bytes live through the call; there is room for the URB's length, of which `filled` are taken.
        unsafe data.withUnsafeBytes { source in
            guard let base = source.baseAddress, let room = unsafe buffer?.baseAddress else { return }
            unsafe (room + filled).copyMemory(from: base, byteCount: source.count)
        }
        filled += data.count
    }
}

extension UsbfsSession {
    /// Calls of an opener whose data may be half there. Whose threads have died in between lose theirs to others.
    static let outDataLimit = 16

    func collect(
        _ urb: UsbfsURB, head: Int, _ context: UsbfsContext, _ input: Span<UInt8>, _ reply: consuming UsbfsReply
    ) {
        do throws(UsbfsErrno) {
            let data: UsbfsOutData
            if input.count == head {
                data = try beginCollecting(urb, context, caller: reply.caller)
            } else {
                data = try goOnCollecting(urb, context, caller: reply.caller, count: input.count - head)
                data.take(input.extracting(head...))
            }
            guard data.wanted.count == 0 else { return askForMore(data, head: head, reply) }
            let size = context.layout.urbSize
            submit(
                UsbfsSubmission(urb: urb, setup: nil, packets: size, data: head, collected: data), context, input, reply
            )
        } catch {
            reply.error(error.number)
        }
    }

    private func beginCollecting(
        _ urb: UsbfsURB, _ context: UsbfsContext, caller: Int32
    ) throws(UsbfsErrno) -> UsbfsOutData {
        // A thread is in one call at a time: what it had begun it has given up. Threads that can't be seen have no number.
        dropOutData { $0.caller == caller && (caller != 0 || $0.argument == context.argument) }
        let cost = UsbfsOutData.cost(of: urb)
        guard node.reserve(cost) else { throw UsbfsErrno(ENOMEM) }
        guard let buffer = device.sendPool.takeAny(Int(urb.bufferLength)) else {
            node.free(cost)
            throw UsbfsErrno(ENOMEM)
        }
        return UsbfsOutData(urb, context, caller: caller, buffer)
    }

    private func goOnCollecting(
        _ urb: UsbfsURB, _ context: UsbfsContext, caller: Int32, count: Int
    ) throws(UsbfsErrno) -> UsbfsOutData {
        let found = state.withLock { state -> UsbfsOutData? in
            let index = state.outData.firstIndex {
                $0.caller == caller && $0.argument == context.argument && $0.urb == urb && $0.wanted.count == count
            }
            return index.map { state.outData.remove(at: $0) }
        }
        if let found { return found }
        // Its caller has changed the URB in between, or others have pushed it out.
        dropOutData { $0.caller == caller && $0.argument == context.argument }
        throw UsbfsErrno(EINVAL)
    }

    private func askForMore(_ data: UsbfsOutData, head: Int, _ reply: consuming UsbfsReply) {
        let ranges = CallerRanges(in: CallerRange(start: data.argument, count: head), data.wanted)
        var effects = UsbfsEffects()
        let isOpen = state.withLock { state in
            guard state.phase == .open else {
                state.drop(data, &effects)
                return false
            }
            state.outData.append(data)
            if state.outData.count > Self.outDataLimit { state.drop(state.outData.removeFirst(), &effects) }
            return true
        }
        perform(effects)
        // The next round may come before this returns.
        if isOpen { reply.again(ranges) } else { reply.error(ENODEV) }
    }

    private func dropOutData(where isOver: (UsbfsOutData) -> Bool) {
        var effects = UsbfsEffects()
        state.withLock { state in state.dropOutData(&effects, where: isOver) }
        perform(effects)
    }
}

extension UsbfsSession.State {
    mutating func dropOutData(_ effects: inout UsbfsEffects, where isOver: (UsbfsOutData) -> Bool) {
        for data in outData where isOver(data) { drop(data, &effects) }
        outData.removeAll(where: isOver)
    }

    fileprivate func drop(_ data: UsbfsOutData, _ effects: inout UsbfsEffects) {
        effects.freedBytes += data.cost
        effects.dropped.append(data)
    }
}
