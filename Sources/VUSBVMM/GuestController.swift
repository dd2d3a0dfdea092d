// SPDX-License-Identifier: Apache-2.0

package import VUSBCore

/// A USB controller of a guest's, as its monitor emulates it.
package struct GuestController: Sendable, Equatable {
    package enum Kind: String, Sendable, CaseIterable {
        case xhci
        case ehci
        case ohci
        case uhci
    }

    /// The name of its bus in the monitor, such as `xhci.0`.
    package var bus: String
    package var kind: Kind
    /// How many it has, two of one connector (USB 2 and 3) counted as one; nil where that isn't known.
    package var ports: Int?
    /// Nil where it isn't known: there are hubs at it.
    package var freePorts: Int?

    package init(bus: String, kind: Kind, ports: Int? = nil, freePorts: Int? = nil) {
        self.bus = bus
        self.kind = kind
        self.ports = ports
        self.freePorts = freePorts
    }
}

/// What a device wants of the controller that it's plugged into.
package struct PlugWish: Sendable, Hashable {
    package var speed: DeviceSpeed
    /// It has bulk endpoints with streams (USB attached SCSI).
    package var wantsStreams: Bool

    package init(speed: DeviceSpeed, wantsStreams: Bool = false) {
        self.speed = speed
        self.wantsStreams = wantsStreams
    }
}

/// Where a device was plugged into.
package struct PluggedPort: Sendable, Hashable {
    package var bus: String
    /// From 1; nil where the monitor chose one and doesn't tell.
    package var port: Int?

    package init(bus: String, port: Int? = nil) {
        self.bus = bus
        self.port = port
    }
}
