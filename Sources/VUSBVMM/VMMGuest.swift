// SPDX-License-Identifier: Apache-2.0

/// A guest as its monitor sees it.
package struct VMMGuest: Sendable, Equatable {
    package enum State: String, Sendable {
        case running
        case stopped
        case off
        /// Nothing is watched, so nothing is known: a guest that isn't bound to a process.
        case unknown
    }

    package var name: String
    package var state: State
    package var process: GuestProcess?

    package init(name: String, state: State, process: GuestProcess? = nil) {
        self.name = name
        self.state = state
        self.process = process
    }
}

/// How a guest gets USB.
package enum GuestMode: String, Sendable, CaseIterable {
    /// Its directory under /vusb is published; nothing is loaded in it.
    case files
}

/// Names a controller port that was hot-plugged into a guest.
package struct ControllerPort: Sendable, Hashable {
    package var name: String
    package init(_ name: String) { self.name = name }
}
