// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl
internal import VUSBCore
internal import VUSBFileSystem
internal import VUSBVMM

/// A guest's declaration, checked, with names turned into numbers.
struct GuestDefinition: Sendable {
    /// As it was written.
    var specification: GuestSpec
    var connector: String
    /// Nil for `auto`: the best that its connector and its declaration have.
    var mode: GuestMode?
    var machine: GuestMachine?
    var policy: GuestPolicy
    var access: GuestAccess
    var devices: [DeviceSelector]
    /// Its devices get character nodes, in mode `files`.
    var hasNodes: Bool
    /// 0 to 99; the greater comes first.
    var priority: Int

    /// Nil where it has none.
    var limits: GuestLimits.Values?
    /// How many devices it may have; nil where that isn't limited.
    var deviceLimit: Int?

    /// It promises to write to its `heartbeat` at least so often; nil where it promises nothing.
    var heartbeat: Duration?

    /// Of mode `usbip`: where its own clients connect, and who it is where all guests' do.
    var listen: [USBIPAddress]
    var clients: [USBIPClient]

    static let defaultPriority = 50

    var name: String { specification.name }

    /// - Parameter connectors: the names of those there are.
    /// - Throws: `malformed`, naming guest and field.
    init(_ specification: GuestSpec, connectors: [String]) throws(Problem) {
        try GuestName.check(specification.name)
        self.specification = specification
        let fields = GuestFields(guest: specification.name)
        connector = try fields.connector(specification.connector, among: connectors)
        listen = try fields.listen(specification.listen ?? [])
        clients = try fields.clients(specification.clients ?? [])
        // Nobody says where clients connect, and means another mode.
        let isForClients = !listen.isEmpty || !clients.isEmpty
        mode = try fields.mode(specification.mode) ?? (isForClients ? .usbip : nil)
        policy = try fields.policy(specification.policy)
        devices = try fields.devices(specification.devices ?? [])
        access = GuestAccess(
            uid: try fields.owner(specification.owner),
            gid: try fields.group(specification.group),
            fileMode: try fields.fileMode(specification.fileMode)
        )
        machine = try fields.machine(specification)
        hasNodes = specification.nodes ?? false
        priority = try fields.priority(specification.priority)
        limits = try fields.limits(specification)
        deviceLimit = try fields.limit("max-devices", specification.maxDevices)
        heartbeat = try fields.heartbeat(specification.heartbeatSeconds)
    }

    var fileModeText: String {
        let digits = String(access.fileMode, radix: 8)
        return String(repeating: "0", count: max(0, 4 - digits.count)) + digits
    }

    var modeText: String { mode?.rawValue ?? "auto" }
}

/// When a guest is loaded and unloaded.
enum GuestPolicy: String, Sendable, CaseIterable {
    /// When somebody says so.
    case manual
    /// With the first device that it's given, and with the last.
    case onDemand = "on-demand"
}

/// How a virtual machine is reached: what a guest's declaration says of it.
struct GuestMachine: Sendable, Equatable {
    /// The path of QEMU's QMP socket.
    var qmp: String
    /// The path of the guest agent's socket.
    var agent: String?
    /// How the machine sees its directory of /vusb; it's mounted at the share's path where it isn't yet.
    var share: GuestShare?
}
