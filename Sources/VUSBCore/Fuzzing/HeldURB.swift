// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// A URB that a fuzzer's backend keeps until it's told to end it.
package final class HeldURB: Sendable {
    package let token: URBToken
    private let urb: Mutex<URB?>

    package init(_ urb: consuming URB) {
        token = urb.token
        self.urb = Mutex(urb)
    }

    /// Nil the second time.
    package func take() -> URB? { urb.withLock { $0.take() } }
}
