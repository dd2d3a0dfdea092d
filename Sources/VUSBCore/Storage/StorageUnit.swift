// SPDX-License-Identifier: Apache-2.0

/// A logical unit: what was written to it and not yet flushed.
struct StorageUnit: Sendable {
    typealias Instant = ContinuousClock.Instant

    /// How much was written in all until some moment.
    struct Mark: Sendable, Equatable {
        var changes: UInt64 = 0
        var bytes: UInt64 = 0
    }

    let interface: InterfaceNumber
    let lun: UInt16
    /// Stands for several, since there are too many: no flush of one of them makes it clean.
    var isShared = false
    private(set) var writeCache = StorageState.WriteCache.unknown
    /// For the size of writes whose transport doesn't say it; 512 until the device has said otherwise.
    private(set) var blockLength: UInt64 = 512
    private(set) var written = Mark()
    private var flushed = Mark()
    /// Changes until the last one that only a flush settles, cache or not.
    private var unsettled: UInt64 = 0
    /// When the oldest change that isn't flushed began; nil while all is flushed.
    private(set) var dirtySince: Instant?
    /// When the last change ended.
    private(set) var lastChange: Instant?

    init(interface: InterfaceNumber, lun: UInt16) {
        self.interface = interface
        self.lun = lun
    }

    var dirtyBytes: UInt64 { written.bytes - flushed.bytes }

    mutating func changed(_ bytes: UInt64, began: Instant, isLater: Bool = false) {
        written.changes += 1
        if isLater { unsettled = written.changes }
        let (sum, overflows) = written.bytes.addingReportingOverflow(bytes)
        written.bytes = overflows ? .max : sum
        dirtySince = dirtySince.map { min($0, began) } ?? began
        lastChange = .now
    }

    /// All that was written before `mark` is on the medium.
    /// - Parameter began: when the flush did, before which nothing began that is left.
    mutating func settled(_ mark: Mark, began: Instant) {
        guard !isShared, mark.changes > flushed.changes else { return }
        flushed = mark
        dirtySince = written.changes > mark.changes ? began : nil
    }

    /// The device told, or the guest chose, whether there is a write cache.
    mutating func learned(_ isOn: Bool) {
        let wasUnknown = writeCache == .unknown
        writeCache = isOn ? .on : .off
        // It hadn't got one before either.
        guard wasUnknown, !isOn, !isShared, unsettled <= flushed.changes else { return }
        flushed = written
        dirtySince = nil
    }

    /// Sizes that no device has are passed over.
    mutating func learnedBlockLength(_ length: UInt64) {
        if (1...1 << 20).contains(length) { blockLength = length }
    }
}
