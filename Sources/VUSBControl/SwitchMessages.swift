// SPDX-License-Identifier: Apache-2.0

/// Who gets the device, and how it's taken from who has it; the body of `switch`.
package struct SwitchRequest: Codable, Sendable, Equatable {
    package var guest: String
    /// As in `ReleaseRequest`.
    package var deadlineSeconds: Double?
    package var onDeadline: ReleaseRequest.OnDeadline?

    package init(
        guest: String, deadlineSeconds: Double? = nil, onDeadline: ReleaseRequest.OnDeadline? = nil
    ) {
        self.guest = guest
        self.deadlineSeconds = deadlineSeconds
        self.onDeadline = onDeadline
    }
}

/// Somebody's word that a device isn't to be taken from its guest; the body of `hold`.
package struct HoldRequest: Codable, Sendable, Equatable {
    /// 1 to 86,400; default 600. A hold ends by itself: who forgets it blocks nobody for ever.
    package var seconds: Double?
    package var reason: String?

    package init(seconds: Double? = nil, reason: String? = nil) {
        self.seconds = seconds
        self.reason = reason
    }
}

/// A hold that is in force.
package struct HoldInfo: Codable, Sendable, Equatable {
    /// Seconds since 1970.
    package var until: Double
    package var reason: String?

    package init(until: Double, reason: String? = nil) {
        self.until = until
        self.reason = reason
    }
}
