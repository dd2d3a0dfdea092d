// SPDX-License-Identifier: Apache-2.0

/// A SCSI command as far as it matters for what is on the medium. Those that don't matter (reads, inquiries) are none.
struct StorageCommand: Sendable, Equatable {
    enum Effect: Sendable, Equatable {
        /// Changes the medium.
        case change(Settlement)
        /// All that was written is on the medium when it has succeeded.
        case synchronize
        /// As `synchronize`: the medium stops and what is cached is written first.
        case stop
        /// Changes the device and mustn't be interrupted, but leaves nothing in the cache.
        case service
        /// Asks for the values in force of the caching page.
        case modeSense(ModeParameters.Format)
        case modeSelect(ModeParameters.Format)
        /// The answer has the length of a block at this offset, in four bytes.
        case readCapacity(blockLengthAt: Int)
        case requestSense
    }

    /// When a change is on the medium.
    enum Settlement: Sendable, Equatable {
        /// When it has succeeded, unless there is a write cache.
        case byCache
        /// When it has succeeded: FUA.
        case atStatus
        /// Some time after its status.
        case later
    }

    let name: String
    let effect: Effect
    /// What it writes, where its command block says so.
    var blocks: UInt64 = 0

    /// Whether the device is busy with it as far as the medium is concerned.
    var isBusy: Bool {
        switch effect {
        case .change, .synchronize, .stop, .service: true
        case .modeSense, .modeSelect, .readCapacity, .requestSense: false
        }
    }

    /// Whether what comes in has to be looked at.
    var wantsDataIn: Bool {
        switch effect {
        case .modeSense, .readCapacity, .requestSense: true
        case .change, .synchronize, .stop, .service, .modeSelect: false
        }
    }

    var wantsDataOut: Bool {
        if case .modeSelect = effect { true } else { false }
    }
}

/// The first bytes of a command descriptor block, big-endian; bytes behind its end are 0. A copy: what is decided is
/// decided from bytes that nobody changes meanwhile.
struct StorageCommandBlock: Sendable {
    static let limit = 32
    private var storage = InlineArray<32, UInt8>(repeating: 0)

    init(_ span: borrowing Span<UInt8>, from start: Int, count: Int) {
        for index in 0..<max(0, min(Self.limit, count, span.count - start)) { storage[index] = span[start + index] }
    }

    /// Constants only: `index` is below `limit`.
    subscript(index: Int) -> UInt8 { storage[index] }

    func number(at start: Int, bytes: Int) -> UInt64 {
        (start..<start + bytes).reduce(0) { $0 << 8 | UInt64(storage[$1]) }
    }
}
