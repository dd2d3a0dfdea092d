// SPDX-License-Identifier: Apache-2.0

package import VUSBCore

/// How an import is now.
package struct USBIPImportStatus: Sendable, Equatable {
    package enum State: Sendable, Equatable {
        /// A try is under way: the connection, the import, or the descriptors.
        case connecting
        /// The device is here.
        case imported
        /// The last try has failed, or the connection was lost; the next try is at `next`.
        case waiting(reason: String, next: ContinuousClock.Instant)
    }

    package var id: DeviceID
    package var remote: USBIPRemote
    package var state: State
    /// Tries that have failed since it was there last.
    package var attempts: Int
    /// What the last of them has failed with, or how the device was lost.
    package var lastFailure: String?

    package init(id: DeviceID, remote: USBIPRemote, state: State, attempts: Int, lastFailure: String? = nil) {
        self.id = id
        self.remote = remote
        self.state = state
        self.attempts = attempts
        self.lastFailure = lastFailure
    }
}
