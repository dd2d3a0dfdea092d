// SPDX-License-Identifier: Apache-2.0

// `struct iovec` belongs to whichever Clang module Swift saw first.
internal import CFuse3
internal import Glibc
internal import VUSBCore

/// Who answers requests of the kernel; in tests, somebody who plays it. Any thread calls.
protocol UsbfsAnswering: AnyObject, Sendable {
    /// - Parameter error: an errno, or 0.
    func answer(_ request: UInt, error: Int32)
    /// - Returns: false where the opener has gone meanwhile: no release will come.
    func answerOpen(_ request: UInt, handle: UInt64) -> Bool
    func answerRead(_ request: UInt, _ bytes: ArraySlice<UInt8>)
    func answerPoll(_ request: UInt, events: UInt32)
    func answerAgain(_ request: UInt, _ ranges: CallerRanges)
    /// The bytes of `parts`, one after the other, go to the ranges that this round may write.
    @unsafe func answerControl(_ request: UInt, result: Int32, _ parts: UnsafeBufferPointer<iovec>)
    /// Has `UsbfsNode.interrupted` called when a signal interrupts the caller, perhaps before this returns.
    func watchInterrupts(_ request: UInt, of session: UInt64)
}

/// The right to answer one request, exactly once, from any thread; keeps the connection to the kernel alive. Whoever
/// drops it answers EIO.
struct UsbfsReply: ~Copyable, Sendable {
    private var answering: (any UsbfsAnswering)?
    /// Names the request while it isn't answered.
    let request: UInt
    /// The thread that waits for it, as the process that opened /dev/cuse numbers it; 0 for one that it can't see.
    let caller: Int32

    init(_ answering: any UsbfsAnswering, _ request: UInt, caller: Int32) {
        self.answering = answering
        self.request = request
        self.caller = caller
    }

    deinit {
        guard let answering else { return }
        assertionFailure("a request was dropped without an answer")
        answering.answer(request, error: EIO)
    }

    consuming func error(_ errno: Int32) { answering.take()?.answer(request, error: errno) }

    consuming func result(_ value: Int32) {
        unsafe control(value) { send in unsafe send(UnsafeBufferPointer(start: nil, count: 0)) }
    }

    consuming func opened(handle: UInt64) -> Bool {
        answering.take()?.answerOpen(request, handle: handle) ?? false
    }

    consuming func read(_ bytes: ArraySlice<UInt8>) { answering.take()?.answerRead(request, bytes) }

    consuming func poll(_ events: UInt32) { answering.take()?.answerPoll(request, events: events) }

    consuming func again(_ ranges: CallerRanges) { answering.take()?.answerAgain(request, ranges) }

    /// Answers an ioctl with what `gather` sends, once: memory that is only read, and only during the call.
    @unsafe
    consuming func control(_ result: Int32, _ gather: ((UnsafeBufferPointer<iovec>) -> Void) -> Void) {
        guard let answering = answering.take() else { return }
        let request = request
        unsafe gather { parts in unsafe answering.answerControl(request, result: result, parts) }
    }

    consuming func fields(_ fields: UsbfsFields, count: Int? = nil) {
        let bytes = fields.bytes
        // SAFETY: the array outlives the call, which only reads.
        unsafe control(0) { send in
            unsafe bytes.withUnsafeBytes { source in
                let base = unsafe UnsafeMutableRawPointer(mutating: source.baseAddress)
                var part = unsafe iovec(iov_base: base, iov_len: min(count ?? source.count, source.count))
                unsafe withUnsafePointer(to: &part) { unsafe send(UnsafeBufferPointer(start: $0, count: 1)) }
            }
        }
    }

    /// Answers with the first `count` bytes of `buffer`, straight from its memory.
    consuming func data(_ buffer: borrowing TransferBuffer, count: Int) {
        precondition(count >= 0 && count <= buffer.capacity)
        // SAFETY: the count was checked; the buffer is borrowed for the call, which only reads.
        var part = unsafe iovec(iov_base: buffer.baseAddress, iov_len: count)
        unsafe control(Int32(count)) { send in
            unsafe withUnsafePointer(to: &part) { unsafe send(UnsafeBufferPointer(start: $0, count: 1)) }
        }
    }

    func watchInterrupts(of session: UInt64) { answering?.watchInterrupts(request, of: session) }
}
