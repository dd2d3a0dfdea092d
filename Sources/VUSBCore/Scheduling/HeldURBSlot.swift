// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// A recycled place for a URB that is held back: `Array` doesn't take what can't be copied.
///
/// Concurrency model: who links or unlinks its slot under the scheduler's lock puts or takes; the `Mutex` is for the
/// compiler and never contended. Lock order: a scheduler's, then this.
final class HeldURBSlot: Sendable {
    private let urb = Mutex<URB?>(nil)

    func put(_ urb: consuming URB) {
        var moved: URB? = consume urb
        self.urb.withLock { $0 = moved.take() }
    }

    func take() -> URB? { urb.withLock { $0.take() } }
}
