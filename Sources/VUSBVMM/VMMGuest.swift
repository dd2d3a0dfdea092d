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
    /// `vusb_hcd.ko` is loaded in its kernel, whose own drivers then bind to its devices.
    case module
    /// A `usb-redir` is hot-plugged into its own controller for each device; no software in it.
    case redirect
    /// Its devices wait at listeners for a client of the USB/IP protocol, such as Linux's `vhci-hcd`.
    case usbip
}

/// Where a connector finds a guest. Each uses what it needs and refuses what it can't use.
package struct GuestPlace: Sendable, Hashable {
    /// The guest is this process on the host.
    package var process: GuestProcess?
    /// The path of QEMU's QMP socket.
    package var monitorSocket: String?
    /// The path of the guest agent's socket.
    package var agentSocket: String?

    package init(process: GuestProcess? = nil, monitorSocket: String? = nil, agentSocket: String? = nil) {
        self.process = process
        self.monitorSocket = monitorSocket
        self.agentSocket = agentSocket
    }
}

/// Names what is hot-plugged into a guest, such as `1-1`: letters a-z, digits and hyphens.
package struct ControllerPort: Sendable, Hashable {
    package var name: String
    package init(_ name: String) { self.name = name }
}
