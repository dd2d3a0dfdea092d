// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl
internal import VUSBCore

/// A device that the host has, or had until whoever uses it is done with it.
struct DeviceEntry: Sendable {
    /// Who has it. A device has one holder at any time: this is what makes two owners impossible.
    enum Holder: Sendable {
        case free
        /// An operation opens it for a guest.
        case attaching(operation: Int, guest: String)
        case attached(Attachment)
        /// It's taken from its guest: by an operation, or (nil) because it was unplugged or quarantined.
        case detaching(operation: Int?, Attachment)
    }

    struct Handover: Sendable {
        var operation: Int
        var guest: String
    }

    var record: DeviceRecord
    var holder = Holder.free
    /// It was unplugged while somebody used it: the entry goes as soon as that ends.
    var hasLeft = false
    /// Who gets it in the very step in which its guest has given it back.
    var next: Handover?
    /// Taken by hand from this guest, whose a claim says it is: while one says so it stays free until it's plugged in anew, or
    /// given by hand.
    var releasedFrom: String?
    /// Ends with the attachment.
    var hold: Hold?
    /// It misbehaved: why no guest gets it.
    var quarantine: Misbehaviour?
    /// The next device on the same port, which came before the entry could go.
    var successor: DeviceRecord?

    /// What there is for people to see; nil once unplugged.
    var visibleRecord: DeviceRecord? { hasLeft ? nil : record }

    var attachment: Attachment? {
        switch holder {
        case .free, .attaching: nil
        case .attached(let attachment), .detaching(_, let attachment): attachment
        }
    }

    /// The guest that has it, gets it or gives it.
    var guest: String? {
        switch holder {
        case .free: nil
        case .attaching(_, let guest): guest
        case .attached(let attachment), .detaching(_, let attachment): attachment.guest
        }
    }

    var operation: Int? {
        switch holder {
        case .free, .attached: nil
        case .attaching(let operation, _): operation
        case .detaching(let operation, _): operation
        }
    }

    var state: DeviceInfo.State {
        switch holder {
        case .free: quarantine == nil ? .available : .quarantined
        case .attached: .attached
        case .attaching, .detaching: .changing
        }
    }
}
