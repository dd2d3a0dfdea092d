// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// The end of the time that several commands have together.
struct Deadline {
    let limit: Duration
    private let end: ContinuousClock.Instant

    init(in limit: Duration) {
        self.limit = limit
        end = .now + limit
    }

    /// The time that is left, more than none.
    /// - Throws: `timedOut`.
    func left() throws(USBError) -> Duration {
        let left = end - .now
        guard left > .zero else { throw USBError(.timedOut, "\(limit) are over") }
        return left
    }
}
