// SPDX-License-Identifier: Apache-2.0

/// What happens to a character device, for the control plane.
package struct CharDeviceEvent: Sendable, Equatable {
    package enum Kind: Sendable, Equatable {
        /// Openers have come or gone: `CharDevicePort.status` says how it is. Not told again before that was looked at.
        case changed
        /// The kernel has ended the connection: nobody can open it any more. Nothing follows.
        case lost
    }

    package var guest: String
    /// The device's path in the guest's directory.
    package var path: String
    package var kind: Kind

    package init(guest: String, path: String, kind: Kind) {
        self.guest = guest
        self.path = path
        self.kind = kind
    }
}

/// How a character device is used now.
package struct CharDeviceStatus: Sendable, Equatable {
    package struct Opener: Sendable, Equatable {
        /// Of the thread that opened it, as vusbd sees it; 0 for one that it can't see. It may have passed it on.
        package var process: Int32
        package var interfaces: [UInt8]
        /// Requests at the device.
        package var pending: Int
        /// URBs that have ended, and that it hasn't asked for.
        package var unreaped: Int

        /// It relies on the device: has claimed an interface, or waits for something.
        package var isInUse: Bool { !interfaces.isEmpty || pending > 0 || unreaped > 0 }

        package init(process: Int32, interfaces: [UInt8], pending: Int, unreaped: Int) {
            self.process = process
            self.interfaces = interfaces
            self.pending = pending
            self.unreaped = unreaped
        }
    }

    package var openers: [Opener]
    /// Bytes of URBs that aren't reaped.
    package var bytes: Int
    /// Since a URB was last begun or ended; nil before the first.
    package var idle: Duration?

    package var isInUse: Bool { openers.contains(where: \.isInUse) }

    package init(openers: [Opener], bytes: Int, idle: Duration? = nil) {
        self.openers = openers
        self.bytes = bytes
        self.idle = idle
    }
}
