// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import FoundationEssentials
import VUSBControl

struct GuestAdd: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "add",
        abstract: "Declares a guest. It's loaded with 'vusbctl load'.",
        discussion: """
            A virtual machine is declared with --connector qemu and --qmp. To load the USB module in it, it also needs \
            --agent and --share.
            """)

    @OptionGroup var common: CommonOptions

    @Argument(help: "1 to 63 of a-z, 0-9 and -, not beginning with -.")
    var name: String

    @Option(
        help: "How vusbd reaches the guest: local, a process or container on this host, or qemu. Default: local.",
        completion: .list(Rules.connectors))
    var connector: String?

    @Option(
        help: """
            files, module, redirect, usbip or auto. Default: auto: with qemu redirect where the machine has an xHCI controller, else \
            module, else files.
            """,
        completion: .list(Rules.modes))
    var mode: String?

    @Option(
        help: ArgumentHelp("QEMU's QMP socket (-qmp unix:PATH,server=on,wait=off).", valueName: "path"),
        completion: .file())
    var qmp: String?

    @Option(
        help: ArgumentHelp("The socket of the machine's guest agent.", valueName: "path"), completion: .file())
    var agent: String?

    @Option(
        help: ArgumentHelp(
            "How the machine sees /vusb/guests/NAME: virtiofs:TAG or 9p:TAG.", valueName: "kind:tag"))
    var share: String?

    @Option(
        help: "manual, or on-demand: loaded with its first device, unloaded with its last. Default: manual.",
        completion: .list(Rules.policies))
    var policy: String?

    @Option(
        help: """
            The user that owns the guest's files, and the sockets at which its QEMU gets devices, by name or number. \
            Default: root.
            """)
    var owner: String?

    @Option(help: "The group of the guest's files, by name or number. Default: root.")
    var group: String?

    @Option(help: "Permission bits of the guest's files in octal. Default: 0600.")
    var fileMode: String?

    @Flag(
        help: """
            Its devices get character nodes that speak usbfs, so that libusb's programs work with them unchanged; needs \
            CUSE. See 'vusbctl run'.
            """)
    var nodes = false

    @Option(
        parsing: .unconditional, help: "0 to 99: the greater comes first, for a device and on a bus. Default: 50.",
        transform: Number.within(Rules.priorities))
    var priority: Int?

    @Option(
        parsing: .unconditional, help: "How much all its devices may move together; what goes beyond waits.",
        transform: Number.within(Rules.limits))
    var maxBytesPerSecond: Int?

    @Option(
        name: .customLong("max-urbs"), parsing: .unconditional,
        help: "How many of its transfers may be in flight.", transform: Number.within(Rules.limits))
    var maxURBs: Int?

    @Option(
        parsing: .unconditional, help: "How many bytes of its transfers may be in flight.",
        transform: Number.within(Rules.limits))
    var maxBytesInFlight: Int?

    @Option(
        parsing: .unconditional, help: "How many devices it may have.",
        transform: Number.within(Rules.limits))
    var maxDevices: Int?

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            """
            It writes to its heartbeat file at least so often, such as 5s, 1s to 1h; a guest that is silent for longer loses its \
            devices. Mode files only.
            """, valueName: "time"),
        transform: Seconds.within(Rules.heartbeats))
    var heartbeat: Seconds?

    @Option(
        help: ArgumentHelp(
            """
            Where its USB/IP clients connect, and nobody else's: tcp:PORT, which is on 127.0.0.1, tcp:ADDRESS:PORT, unix:PATH or \
            vsock:PORT. Can be given more than once. Mode usbip.
            """, valueName: "address"))
    var listen: [String] = []

    @Option(
        name: .customLong("client"),
        help: ArgumentHelp(
            """
            Who it is at the USB/IP listeners of vusb.yaml: cid:NUMBER, user:NAME, certificate:COMMON-NAME or \
            sha256:FINGERPRINT. Can be given more than once. Mode usbip.
            """, valueName: "client"))
    var clients: [String] = []

    @Option(
        name: .customLong("device"),
        help: "A device that it's to have when it's loaded. Can be given more than once.")
    var devices: [String] = []

    func run() async throws {
        let specification = GuestSpec(
            name: name, connector: connector, mode: mode, qmp: qmp.map(Self.absolute), agent: agent.map(Self.absolute),
            share: share, policy: policy, owner: owner, group: group, fileMode: fileMode,
            nodes: nodes ? true : nil, priority: priority, maxBytesPerSecond: maxBytesPerSecond, maxURBs: maxURBs,
            maxBytesInFlight: maxBytesInFlight,
            maxDevices: maxDevices, heartbeatSeconds: heartbeat?.value,
            listen: listen.isEmpty ? nil : listen, clients: clients.isEmpty ? nil : clients,
            devices: devices.isEmpty ? nil : devices)
        try await common.run { client in
            let guest = try await client.addGuest(specification)
            if common.json { return try Output.json(guest) }
            if let export = guest.export { try Output.print("export \(export)") }
        }
    }

    /// The daemon has another working directory.
    private static func absolute(_ path: String) -> String {
        path.isEmpty ? path : URL(fileURLWithPath: path).standardizedFileURL.path
    }
}
