// SPDX-License-Identifier: Apache-2.0

/// What happens at the front, for the control plane.
package enum USBIPEvent: Sendable, Equatable {
    /// A peer has imported the device.
    case imported(USBIPPlace, peer: String)
    /// The session is over: the device is to be reset and readmitted.
    /// - Parameter unfinished: URBs that haven't ended; 0 but for a source that hangs.
    case ended(USBIPPlace, peer: String, USBIPEnd, unfinished: Int)
    /// A connection was closed before it had imported anything, for its peer's fault. `others` were before it that
    /// weren't told of.
    case refused(listener: String, peer: String, reason: String, others: Int)
}

/// Why a session is over.
package enum USBIPEnd: Sendable, Equatable {
    /// The peer has closed the connection, or has ended.
    case closed
    /// It has reset it.
    case reset
    /// It has vanished: K2 of USBIP.md.
    case vanished
    /// It doesn't read: K4.
    case deaf
    /// It broke a rule of the protocol.
    case violation(String)
    case failed(String)
    /// This host has ended it.
    case withdrawn
}

extension USBIPEnd: CustomStringConvertible {
    package var description: String {
        switch self {
        case .closed: "the peer has closed the connection"
        case .reset: "the peer has reset the connection"
        case .vanished: "the peer has vanished"
        case .deaf: "the peer doesn't read"
        case .violation(let what): "the peer has sent \(what)"
        case .failed(let what): what
        case .withdrawn: "the device was taken back"
        }
    }
}

/// How an exported device is now.
package struct USBIPStatus: Sendable, Equatable {
    package enum State: String, Sendable {
        /// Nobody has it.
        case free
        case imported
        /// A session is over, and the device wasn't readmitted yet.
        case resting
        case withdrawn
    }

    package var state: State
    package var peer: String?
    package var inFlight: Int
    /// Since the last answer to a transfer, interrupt IN aside; nil before the first.
    package var idle: Duration?

    package init(state: State, peer: String? = nil, inFlight: Int = 0, idle: Duration? = nil) {
        self.state = state
        self.peer = peer
        self.inFlight = inFlight
        self.idle = idle
    }
}
