// SPDX-License-Identifier: Apache-2.0

/// Whether what a guest wrote to a mass-storage device is known to be on its medium. See StorageWatch.md.
package struct StorageState: Sendable, Equatable {
    package typealias Instant = ContinuousClock.Instant

    package enum Condition: Sendable, Equatable {
        case clean
        /// The status of a command that changes the medium, or flushes, hasn't come.
        case inProgress(command: String, since: Instant)
        /// Written and not flushed. The bytes are as many as is known: 0 for changes that bring no data.
        case dirty(since: Instant, bytes: UInt64)
    }

    package enum WriteCache: String, Sendable {
        /// Nobody asked the device, so far as was seen. It counts as `on`.
        case unknown
        case off
        case on
    }

    /// One logical unit that the guest has used.
    package struct Unit: Sendable, Equatable {
        package let interface: InterfaceNumber
        package let lun: UInt16
        package let writeCache: WriteCache
        package let condition: Condition
        /// When its last change ended; nil where nothing was changed yet.
        package let lastChange: Instant?
    }

    /// In the order in which the guest came to use them.
    package let units: [Unit]

    package var isClean: Bool { condition == .clean }

    /// When what isn't clean began; nil while all is.
    package var beganAt: Instant? {
        switch condition {
        case .clean: nil
        case .inProgress(_, let since), .dirty(let since, _): since
        }
    }

    /// When the last change ended of what isn't flushed; nil where all is.
    package var lastUnflushedChange: Instant? { units.filter { $0.condition != .clean }.compactMap(\.lastChange).max() }

    /// Of all units: dirty if one is, else in progress if one is.
    package var condition: Condition { units.map(\.condition).reduce(.clean, Self.worse) }

    private static func worse(_ one: Condition, _ other: Condition) -> Condition {
        switch (one, other) {
        case (.dirty(let since, let bytes), .dirty(let otherSince, let otherBytes)):
            let (sum, overflows) = bytes.addingReportingOverflow(otherBytes)
            return .dirty(since: min(since, otherSince), bytes: overflows ? .max : sum)
        case (.dirty, _): return one
        case (_, .dirty): return other
        case (.inProgress(_, let since), .inProgress(_, let otherSince)): return since <= otherSince ? one : other
        case (.inProgress, _): return one
        default: return other
        }
    }
}

// For people.
extension StorageState {
    /// Such as "64 KiB written since 2.1 s and not yet flushed (SYNCHRONIZE CACHE)"; nil while clean.
    package func reason(at now: Instant) -> String? {
        let texts = units.compactMap { unit in
            Self.text(unit, at: now).map { units.count > 1 ? "LUN \(unit.lun & 0x3fff): \($0)" : $0 }
        }
        return texts.isEmpty ? nil : texts.joined(separator: "; ")
    }

    private static func text(_ unit: Unit, at now: Instant) -> String? {
        switch unit.condition {
        case .clean: return nil
        case .inProgress(let command, let since): return "\(command) in progress since \(seconds(now - since)) s"
        case .dirty(let since, let bytes):
            let what = bytes > 0 ? "\(size(bytes)) written" : "the medium changed"
            let text = "\(what) since \(seconds(now - since)) s and not yet flushed (SYNCHRONIZE CACHE)"
            return unit.writeCache == .unknown ? text + "; whether it has a write cache was never asked" : text
        }
    }

    private static func seconds(_ duration: Duration) -> String {
        let tenths = max(.zero, duration) / .milliseconds(100)
        let count = UInt64(min(tenths, 1e15))
        return "\(count / 10).\(count % 10)"
    }

    private static func size(_ bytes: UInt64) -> String {
        let names = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]
        var index = 0
        while index + 1 < names.count, bytes >> UInt64(10 * (index + 1)) > 0 { index += 1 }
        guard index > 0 else { return "\(bytes) bytes" }
        let whole = bytes >> UInt64(10 * index)
        let tenth = ((bytes >> UInt64(10 * (index - 1))) & 0x3ff) * 10 / 1024
        return tenth > 0 ? "\(whole).\(tenth) \(names[index])" : "\(whole) \(names[index])"
    }
}
