// SPDX-License-Identifier: Apache-2.0

/// What declares a guest: the body of `POST /v1/guests` and an entry of vusb.yaml.
package struct GuestSpec: Codable, Sendable, Equatable {
    /// `[a-z0-9][a-z0-9-]{0,62}`
    package var name: String
    /// How vusbd reaches the guest; `local` for a process or container on this host, `qemu` for a virtual machine.
    package var connector: String?
    /// `files`, `module`, `redirect`, `usbip` or `auto`.
    package var mode: String?
    /// The path of the VM's QMP socket; connector `qemu` only.
    package var qmp: String?
    /// The path of the guest agent's socket; connector `qemu` only.
    package var agent: String?
    /// How the VM sees its directory of /vusb: `virtiofs:TAG` or `9p:TAG`; mode `module` with `qemu` only.
    package var share: String?
    /// `manual`, or `on-demand`: load with the first device it is given, unload with the last. Default `manual`.
    package var policy: String?
    /// Who owns the guest's files: a user name or number. Default root.
    package var owner: String?
    /// A group name or number. Default root.
    package var group: String?
    /// Permission bits of its files in octal, such as `0660`. Default `0600`.
    package var fileMode: String?
    /// Whether its devices get character nodes that speak usbfs; mode `files` with `local` only. Default false.
    package var nodes: Bool?
    /// 0 to 99; the greater comes first where guests want the same. Default 50.
    package var priority: Int?
    /// What all its devices may move together; what goes beyond waits. No limit where it's absent.
    package var maxBytesPerSecond: Int?
    package var maxURBs: Int?
    package var maxBytesInFlight: Int?
    package var maxDevices: Int?
    /// It writes to its `heartbeat` file at least so often, in seconds; mode `files` with `local` only. What is silent for
    /// longer loses its devices.
    package var heartbeatSeconds: Double?
    /// Where its USB/IP clients connect, and nobody else's: `tcp:PORT`, `tcp:ADDRESS:PORT`, `unix:PATH`, `vsock:PORT`; mode
    /// `usbip` only.
    package var listen: [String]?
    /// Who it is at the USB/IP listeners that all guests share: `cid:NUMBER`, `user:NAME`, `certificate:COMMON-NAME`,
    /// `sha256:FINGERPRINT`; mode `usbip` only.
    package var clients: [String]?
    /// What it is to have when loaded: device ids, `VID:PID` or `VID:PID:SERIAL`.
    package var devices: [String]?

    package init(
        name: String, connector: String? = nil, mode: String? = nil, qmp: String? = nil, agent: String? = nil,
        share: String? = nil, policy: String? = nil, owner: String? = nil, group: String? = nil,
        fileMode: String? = nil, nodes: Bool? = nil, priority: Int? = nil, maxBytesPerSecond: Int? = nil,
        maxURBs: Int? = nil,
        maxBytesInFlight: Int? = nil, maxDevices: Int? = nil, heartbeatSeconds: Double? = nil,
        listen: [String]? = nil, clients: [String]? = nil, devices: [String]? = nil
    ) {
        self.name = name
        self.connector = connector
        self.mode = mode
        self.qmp = qmp
        self.agent = agent
        self.share = share
        self.policy = policy
        self.owner = owner
        self.group = group
        self.fileMode = fileMode
        self.nodes = nodes
        self.priority = priority
        self.maxBytesPerSecond = maxBytesPerSecond
        self.maxURBs = maxURBs
        self.maxBytesInFlight = maxBytesInFlight
        self.maxDevices = maxDevices
        self.heartbeatSeconds = heartbeatSeconds
        self.listen = listen
        self.clients = clients
        self.devices = devices
    }
}

/// A guest that was declared, and what it holds.
package struct GuestInfo: Codable, Sendable, Equatable {
    package enum State: String, Codable, Sendable {
        case unloaded, loading, loaded, draining, failed
        /// It was loaded, its VM is off: it is loaded again when the VM is back.
        case waiting
    }

    package enum Machine: String, Codable, Sendable {
        case running, paused, off
    }

    package var name: String
    package var connector: String
    /// As declared.
    package var mode: String
    /// The mode it is loaded in; absent while it isn't.
    package var loadedMode: String?
    /// Where mode `auto` had a choice.
    package var auto: AutoModeInfo?
    package var policy: String
    package var qmp: String?
    package var agent: String?
    package var share: String?
    /// The directory of the host that its exporter is to be given; present with `share`.
    package var export: String?
    /// Of mode `module`.
    package var channel: ChannelInfo?
    /// How its virtual machine is, as its monitor said last; absent where none is watched.
    package var machine: Machine?
    package var state: State
    /// Why it failed.
    package var reason: String?
    /// Nothing was heard of it for longer than it has promised: its devices were taken.
    package var silent: Bool
    package var owner: Int
    package var group: Int
    package var fileMode: String
    /// Whether its devices have character nodes, in mode `files`.
    package var nodes: Bool
    /// The major number of all of them; absent before the guest was loaded with them.
    package var nodeMajor: Int?
    /// As declared; empty but for mode `usbip`.
    package var listen: [String]
    package var clients: [String]
    /// 0 to 99.
    package var priority: Int
    package var devices: [String]
    /// `configuration` or `control`: who declared it.
    package var declaredBy: String
    package var attachments: [AttachmentInfo]

    package init(
        name: String, connector: String, mode: String, loadedMode: String? = nil, auto: AutoModeInfo? = nil,
        policy: String = "manual", qmp: String? = nil, agent: String? = nil, share: String? = nil,
        export: String? = nil,
        channel: ChannelInfo? = nil, machine: Machine? = nil, state: State,
        reason: String? = nil, silent: Bool = false, owner: Int, group: Int, fileMode: String, nodes: Bool = false,
        nodeMajor: Int? = nil, listen: [String] = [], clients: [String] = [],
        priority: Int = 50,
        devices: [String],
        declaredBy: String, attachments: [AttachmentInfo]
    ) {
        self.name = name
        self.connector = connector
        self.mode = mode
        self.loadedMode = loadedMode
        self.auto = auto
        self.policy = policy
        self.qmp = qmp
        self.agent = agent
        self.share = share
        self.export = export
        self.channel = channel
        self.machine = machine
        self.state = state
        self.reason = reason
        self.silent = silent
        self.owner = owner
        self.group = group
        self.fileMode = fileMode
        self.nodes = nodes
        self.nodeMajor = nodeMajor
        self.listen = listen
        self.clients = clients
        self.priority = priority
        self.devices = devices
        self.declaredBy = declaredBy
        self.attachments = attachments
    }
}

/// The channel to the module in a guest.
package struct ChannelInfo: Codable, Sendable, Equatable {
    /// closed, greeting, open, leaving or broken.
    package var state: String
    /// What the module said of itself.
    package var peer: String?
    /// The guest's share serves one request at a time: it works, but slowly; see `doctor`.
    package var oneAtATime: Bool
    package var urbsInFlight: Int

    package init(state: String, peer: String? = nil, oneAtATime: Bool, urbsInFlight: Int) {
        self.state = state
        self.peer = peer
        self.oneAtATime = oneAtATime
        self.urbsInFlight = urbsInFlight
    }
}

/// What mode `auto` has chosen for a guest that could have a controller or the module, and by what it would choose now.
package struct AutoModeInfo: Codable, Sendable, Equatable {
    /// `redirect` or `module`: what was chosen last.
    package var mode: String
    /// What would be chosen now. The guest is moved there when it's loaded, or has no device.
    package var next: String
    package var reason: String
    /// What is further back isn't counted, in seconds.
    package var windowSeconds: Double
    package var loads: Int
    package var unloads: Int
    package var attaches: Int
    package var detaches: Int
    /// Attaches and detaches that were part of a switch to or from another guest.
    package var switches: Int
    /// By how much longer all that would take with the module than with a controller, in seconds.
    package var extraSeconds: Double

    package init(
        mode: String, next: String, reason: String, windowSeconds: Double, loads: Int, unloads: Int, attaches: Int,
        detaches: Int, switches: Int, extraSeconds: Double
    ) {
        self.mode = mode
        self.next = next
        self.reason = reason
        self.windowSeconds = windowSeconds
        self.loads = loads
        self.unloads = unloads
        self.attaches = attaches
        self.detaches = detaches
        self.switches = switches
        self.extraSeconds = extraSeconds
    }
}
