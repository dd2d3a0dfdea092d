// SPDX-License-Identifier: Apache-2.0

/// What kinds of events there are.
enum EventType: String, Sendable {
    case deviceArrived = "device-arrived"
    case deviceLeft = "device-left"
    case deviceRefused = "device-refused"
    /// A guest that is loaded again had it, and it isn't there.
    case deviceMissing = "device-missing"
    case attached
    case attachFailed = "attach-failed"
    case detached
    case detachRefused = "detach-refused"
    case guestAdded = "guest-added"
    case guestRemoved = "guest-removed"
    case guestState = "guest-state"
    /// Its monitor or process says so: resumed, stopped, off, panicked, reset.
    case guestLife = "guest-life"
    /// The channel to its module was opened, closed or broken, or is slow.
    case guestChannel = "guest-channel"
    /// Something that vusbd brought into the guest couldn't be taken out.
    case guestLeftover = "guest-leftover"
    case operation

    /// Whether the guest itself may read it in its `events` file: only what is about itself and names nothing of the
    /// host or of other guests.
    var isForGuest: Bool {
        switch self {
        case .attached, .detached, .detachRefused, .guestState: true
        case .deviceArrived, .deviceLeft, .deviceRefused, .deviceMissing, .attachFailed, .guestAdded, .guestRemoved,
            .guestLife, .guestChannel, .guestLeftover,
            .operation:
            false
        }
    }
}
