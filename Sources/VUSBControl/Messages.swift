// SPDX-License-Identifier: Apache-2.0

// What the control interface says, as JSON. `openapi.yaml` is the contract; the names here are its schemas.
// Optional fields are left out, never null.

/// How the daemon is.
package struct DaemonStatus: Codable, Sendable, Equatable {
    package var version: String
    package var pid: Int
    /// Where /vusb is mounted.
    package var mount: String
    package var uptimeSeconds: Double
    package var guests: Int
    package var devices: Int
    package var attachments: Int
    package var urbsInFlight: Int

    package init(
        version: String, pid: Int, mount: String, uptimeSeconds: Double, guests: Int, devices: Int, attachments: Int,
        urbsInFlight: Int
    ) {
        self.version = version
        self.pid = pid
        self.mount = mount
        self.uptimeSeconds = uptimeSeconds
        self.guests = guests
        self.devices = devices
        self.attachments = attachments
        self.urbsInFlight = urbsInFlight
    }
}

/// A device that the host has.
package struct DeviceInfo: Codable, Sendable, Equatable {
    package enum State: String, Codable, Sendable {
        /// Any guest may have it.
        case available
        /// A guest holds it.
        case attached
        /// Not taken because of what it says of itself; see `reason`.
        case refused
        /// Being attached or detached.
        case changing
        /// It misbehaved: no guest gets it; see `reason`.
        case quarantined
    }

    package var id: String
    package var source: String
    package var state: State
    package var reason: String?
    /// Four hexadecimal digits each.
    package var idVendor: String
    package var idProduct: String
    package var serial: String?
    package var manufacturer: String?
    package var product: String?
    /// low, full, high, super or super-plus.
    package var speed: String
    /// Two hexadecimal digits.
    package var deviceClass: String
    /// `class/subclass/protocol` of each interface, hexadecimal.
    package var interfaces: [String]
    package var attachment: AttachmentInfo?
    package var hold: HoldInfo?
    /// The guests that wait for it, in their order.
    package var waiting: [String]

    package init(
        id: String, source: String, state: State, reason: String? = nil, idVendor: String, idProduct: String,
        serial: String? = nil, manufacturer: String? = nil, product: String? = nil, speed: String,
        deviceClass: String, interfaces: [String], attachment: AttachmentInfo? = nil, hold: HoldInfo? = nil,
        waiting: [String] = []
    ) {
        self.id = id
        self.source = source
        self.state = state
        self.reason = reason
        self.idVendor = idVendor
        self.idProduct = idProduct
        self.serial = serial
        self.manufacturer = manufacturer
        self.product = product
        self.speed = speed
        self.deviceClass = deviceClass
        self.interfaces = interfaces
        self.attachment = attachment
        self.hold = hold
        self.waiting = waiting
    }
}

/// A device that a guest holds right now.
package struct AttachmentInfo: Codable, Sendable, Equatable {
    package var device: String
    package var guest: String
    /// The device's name as the guest sees it, such as `1-1`.
    package var path: String
    package var busNumber: Int
    package var deviceNumber: Int
    package var major: Int
    package var minor: Int
    /// How its guest is loaded: `files`, `module`, `redirect`.
    package var mode: String
    /// `attached`; in mode `redirect` how the connection of the guest's machine is: `waiting`, `greeting`, `connected`,
    /// `closed`; in mode `usbip` whether a client has it: `free`, `imported`, `resting`, `withdrawn`.
    package var state: String
    package var urbsInFlight: Int
    package var urbs: UInt64
    package var failedURBs: UInt64
    package var bytesIn: UInt64
    package var bytesOut: UInt64
    /// Who has imported it, in mode `usbip`.
    package var peer: String?
    /// Since that one's last transfer, in seconds, interrupt endpoints aside; absent before the first.
    package var idleSeconds: Double?
    /// Why it isn't taken from its guest just now; the rows of Arbiter.md.
    package var busy: [String]

    package init(
        device: String, guest: String, path: String, busNumber: Int, deviceNumber: Int, major: Int, minor: Int,
        mode: String, state: String, urbsInFlight: Int, urbs: UInt64, failedURBs: UInt64, bytesIn: UInt64,
        bytesOut: UInt64, peer: String? = nil, idleSeconds: Double? = nil, busy: [String] = []
    ) {
        self.device = device
        self.guest = guest
        self.path = path
        self.busNumber = busNumber
        self.deviceNumber = deviceNumber
        self.major = major
        self.minor = minor
        self.mode = mode
        self.state = state
        self.urbsInFlight = urbsInFlight
        self.urbs = urbs
        self.failedURBs = failedURBs
        self.bytesIn = bytesIn
        self.bytesOut = bytesOut
        self.peer = peer
        self.idleSeconds = idleSeconds
        self.busy = busy
    }
}

/// A build of the USB module for one kernel.
package struct ModuleInfo: Codable, Sendable, Equatable {
    /// As `uname -r` prints it in the guest.
    package var kernelRelease: String
    package var vermagic: String
    package var version: String
    package var directory: String
    /// Why it can't be used; absent where it can.
    package var fault: String?

    package init(kernelRelease: String, vermagic: String, version: String, directory: String, fault: String? = nil) {
        self.kernelRelease = kernelRelease
        self.vermagic = vermagic
        self.version = version
        self.directory = directory
        self.fault = fault
    }
}

/// How a guest is loaded; the body of `load`.
package struct LoadRequest: Codable, Sendable, Equatable {
    package var mode: String?
    /// The guest is this process: when it ends, the guest is unloaded.
    package var process: Int?

    package init(mode: String? = nil, process: Int? = nil) {
        self.mode = mode
        self.process = process
    }
}

/// How a device is taken from its guest; the body of `unload` and `detach`.
package struct ReleaseRequest: Codable, Sendable, Equatable {
    package enum OnDeadline: String, Codable, Sendable { case refuse, cancel, wait }

    /// How long URBs in flight may take to end; 0 to 3600, default 5.
    package var deadlineSeconds: Double?
    /// What happens then; default `refuse`, which leaves all as it was. With `wait` it's waited for until the operation is
    /// cancelled.
    package var onDeadline: OnDeadline?

    package init(deadlineSeconds: Double? = nil, onDeadline: OnDeadline? = nil) {
        self.deadlineSeconds = deadlineSeconds
        self.onDeadline = onDeadline
    }
}

/// Who gets the device; the body of `attach`.
package struct AttachRequest: Codable, Sendable, Equatable {
    package var guest: String
    package init(guest: String) { self.guest = guest }
}

/// The body of `POST /v1/devices`: plugs an emulated device in.
package struct EmulateRequest: Codable, Sendable, Equatable {
    /// As in `--emulate`: `KIND[=ARG][,OPTION=VALUE...]`.
    package var specification: String
    package init(specification: String) { self.specification = specification }
}

/// What is typed on an emulated keyboard; the body of `type`.
package struct TypeRequest: Codable, Sendable, Equatable {
    package var text: String?
    /// Names of keys, such as `scrolllock`; pressed behind the text.
    package var keys: [String]?

    package init(text: String? = nil, keys: [String]? = nil) {
        self.text = text
        self.keys = keys
    }
}

/// A long operation.
package struct OperationInfo: Codable, Sendable, Equatable {
    package enum State: String, Codable, Sendable { case running, succeeded, failed, cancelled }

    package struct Step: Codable, Sendable, Equatable {
        package var name: String
        /// Milliseconds since the operation began.
        package var atMilliseconds: Double
        package init(name: String, atMilliseconds: Double) {
            self.name = name
            self.atMilliseconds = atMilliseconds
        }
    }

    package var id: Int
    /// load, unload, attach, detach, switch, request, focus, import or forget.
    package var kind: String
    package var guest: String?
    package var device: String?
    package var state: State
    package var steps: [Step]
    package var error: Problem?
    /// What an attach made.
    package var attachment: AttachmentInfo?

    package init(
        id: Int, kind: String, guest: String? = nil, device: String? = nil, state: State, steps: [Step] = [],
        error: Problem? = nil, attachment: AttachmentInfo? = nil
    ) {
        self.id = id
        self.kind = kind
        self.guest = guest
        self.device = device
        self.state = state
        self.steps = steps
        self.error = error
        self.attachment = attachment
    }
}

/// Something that happened. Also a line of a guest's `events` file.
package struct EventInfo: Codable, Sendable, Equatable {
    /// Grows by one an event since vusbd started.
    package var sequence: UInt64
    /// Seconds since 1970.
    package var time: Double
    /// device-arrived, device-left, device-refused, attached, detached, detach-refused, guest-added, guest-removed,
    /// guest-state, operation, ...
    package var type: String
    package var guest: String?
    package var device: String?
    /// The device's name as the guest sees it.
    package var path: String?
    package var detail: String?

    package init(
        sequence: UInt64, time: Double, type: String, guest: String? = nil, device: String? = nil,
        path: String? = nil, detail: String? = nil
    ) {
        self.sequence = sequence
        self.time = time
        self.type = type
        self.guest = guest
        self.device = device
        self.path = path
        self.detail = detail
    }
}

/// One thing that `doctor` looked at.
package struct Finding: Codable, Sendable, Equatable {
    package enum Level: String, Codable, Sendable { case ok, warning, error }

    package var check: String
    package var level: Level
    package var summary: String
    package var remedy: String?

    package init(check: String, level: Level, summary: String, remedy: String? = nil) {
        self.check = check
        self.level = level
        self.summary = summary
        self.remedy = remedy
    }
}
