// SPDX-License-Identifier: Apache-2.0

/// Something that happened to a guest, seen from outside it.
package struct VMMEvent: Sendable, Equatable {
    package enum Kind: String, Sendable, CaseIterable {
        /// It was off, or out of reach, and runs now.
        case started
        /// It runs again after `stopped`.
        case resumed
        /// It is paused: its URBs wait, nothing is taken from it.
        case stopped
        /// It has ended, by itself or not: what it held is taken back.
        case off
        /// Its kernel gave up: handled as `off`.
        case panicked
        /// It starts anew and has forgotten its devices' state.
        case reset
    }

    package var guest: String
    package var kind: Kind
    package var detail: String?

    package init(guest: String, kind: Kind, detail: String? = nil) {
        self.guest = guest
        self.kind = kind
        self.detail = detail
    }
}
