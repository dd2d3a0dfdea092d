// SPDX-License-Identifier: Apache-2.0

/// Which guest is to have a set's devices, and how they're taken from who has them; the body of `POST /v1/focus`.
package struct FocusRequest: Codable, Sendable, Equatable {
    package enum OnDeadline: String, Codable, Sendable, CaseIterable {
        /// Nothing is moved.
        case refuse
        /// Also what is in use is taken.
        case cancel
    }

    package var guest: String
    /// Needed where the guest is in several sets.
    package var set: String?
    /// As in `ReleaseRequest`, for each device. Keyboards, mice and the like that nobody holds are taken at
    /// once.
    package var deadlineSeconds: Double?
    /// Default `refuse`.
    package var onDeadline: OnDeadline?

    package init(
        guest: String, set: String? = nil, deadlineSeconds: Double? = nil, onDeadline: OnDeadline? = nil
    ) {
        self.guest = guest
        self.set = set
        self.deadlineSeconds = deadlineSeconds
        self.onDeadline = onDeadline
    }
}

/// Devices that go from guest to guest together.
package struct FocusInfo: Codable, Sendable, Equatable {
    package var name: String
    /// As they're named in vusb.yaml.
    package var devices: [String]
    /// In the order of the hot key's digits, from 1 on.
    package var guests: [String]
    /// Such as `scrolllock,scrolllock,digit`; nil where there is none.
    package var hotKey: String?
    /// It goes to the guest whose machine resumes.
    package var follows: Bool
    /// Those that are there now, by their ids.
    package var present: [String]
    /// The guest that has them all; nil where none has, or none is there.
    package var focused: String?

    package init(
        name: String, devices: [String], guests: [String], hotKey: String?, follows: Bool, present: [String],
        focused: String?
    ) {
        self.name = name
        self.devices = devices
        self.guests = guests
        self.hotKey = hotKey
        self.follows = follows
        self.present = present
        self.focused = focused
    }
}
