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
    case switched
    /// Somebody waits for a device that the guest has.
    case deviceRequested = "device-requested"
    /// Its URBs were held back while more important guests were served.
    case preempted
    case detachRefused = "detach-refused"
    case guestAdded = "guest-added"
    case guestRemoved = "guest-removed"
    /// It misbehaved, and isn't lent any more.
    case deviceQuarantined = "device-quarantined"
    case deviceTrusted = "device-trusted"
    /// Nothing was heard of it for longer than it has promised; then that it's heard again.
    case guestSilent = "guest-silent"
    case guestHeard = "guest-heard"
    case claimAdded = "claim-added"
    case claimRemoved = "claim-removed"
    case guestState = "guest-state"
    /// What mode `auto` has moved a guest to, and why.
    case modeChosen = "mode-chosen"
    /// Its monitor or process says so: resumed, stopped, off, panicked, reset.
    case guestLife = "guest-life"
    /// The channel to its module was opened, closed or broken, or is slow.
    case guestChannel = "guest-channel"
    /// Something that vusbd brought into the guest couldn't be taken out.
    case guestLeftover = "guest-leftover"
    /// A client of the USB/IP protocol was turned away.
    case clientRefused = "client-refused"
    /// A device of another server: whether it's imported, and whether it's there.
    case importAdded = "import-added"
    case importRemoved = "import-removed"
    case importConnected = "import-connected"
    case importLost = "import-lost"
    case operation
    /// Somebody may not do what they have tried on the control socket.
    case accessDenied = "access-denied"

    /// Whether the guest itself may read it in its `events` file: only what is about itself and names nothing of the
    /// host or of other guests.
    var isForGuest: Bool {
        switch self {
        case .attached, .detached, .detachRefused, .deviceRequested, .preempted, .guestState: true
        case .deviceArrived, .deviceLeft, .deviceRefused, .deviceMissing, .attachFailed, .switched, .guestAdded,
            .guestRemoved, .deviceQuarantined, .deviceTrusted, .guestSilent, .guestHeard,
            .claimAdded, .claimRemoved, .modeChosen, .guestLife, .guestChannel, .guestLeftover,
            .clientRefused, .importAdded, .importRemoved, .importConnected, .importLost, .operation, .accessDenied:
            false
        }
    }
}
