// SPDX-License-Identifier: Apache-2.0

internal import DequeModule
internal import Glibc
internal import VUSBCore

/// What waits to be sent, in order: messages put together by libusbredirparser, and answers whose data are still where
/// the transfer had them.
struct RedirOutbox: Sendable {
    @safe
    enum Entry: @unchecked Sendable {
        case slot(Int)
        // SAFETY: from malloc(3), owned by the entry until it's taken out.
        case bytes(UnsafeMutablePointer<UInt8>, count: Int)
    }

    private(set) var entries = Deque<Entry>()
    /// Bytes of the first that were sent.
    private(set) var sentOfFirst = 0
    /// Bytes to be sent.
    private(set) var byteCount = 0

    mutating func append(_ entry: Entry, byteCount count: Int) {
        entries.append(entry)
        byteCount += count
    }

    mutating func sent(_ count: Int) {
        sentOfFirst += count
        byteCount -= count
    }

    /// The first has been sent whole, or isn't to be.
    mutating func removeFirst(byteCount count: Int) -> Entry? {
        guard let entry = entries.popFirst() else { return nil }
        byteCount -= max(0, count - sentOfFirst)
        sentOfFirst = max(0, sentOfFirst - count)
        return entry
    }
}

/// Takes note of memory for sendmsg(2), but for the first bytes of it, which were sent.
@safe
struct RedirVectors {
    // SAFETY: the caller's, with room for `RedirLimits.vectors`; used during one call.
    private let vectors: UnsafeMutablePointer<iovec>
    private(set) var count = 0
    private var skip: Int

    @unsafe
    init(_ vectors: UnsafeMutablePointer<iovec>, skip: Int) {
        unsafe self.vectors = vectors
        self.skip = skip
    }

    var isFull: Bool { count == RedirLimits.vectors }

    @unsafe
    mutating func add(_ start: UnsafeMutableRawPointer, _ length: Int) {
        guard skip < length, !isFull else {
            skip -= min(skip, length)
            return
        }
        unsafe vectors[count] = iovec(iov_base: start + skip, iov_len: length - skip)
        skip = 0
        count += 1
    }
}

/// What was in an entry that was taken out; its end gives the memory back.
struct RedirSent: ~Copyable {
    var urb: URB?
    var headers: TransferBuffer?
    var bytes: RedirBytes?
}
