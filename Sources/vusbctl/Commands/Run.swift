// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Glibc
import VUSBControl

struct Run: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Runs a program that sees a guest's devices in place of the host's.",
        discussion: """
            The program has a view of its own of /dev/bus/usb and /sys/bus/usb, in which the guest's devices are. The guest \
            must have been declared with --nodes. If it isn't loaded, it's loaded as this program, and unloaded when that \
            ends, whoever else is shown it then. Needs root. The exit code is the program's.

            Example: vusbctl run --guest web1 -- lsusb -t
            """)

    @OptionGroup var common: CommonOptions

    @Option(help: "The guest whose devices the program is to see.")
    var guest: String

    @Flag(
        help: """
            Give the program a network of its own, in which it's told of devices that come and go. It has no other \
            network then. Without this it hears what comes and goes on the host.
            """)
    var hotplug = false

    /// Set by itself: the program's namespaces are there already.
    @Flag(help: .private)
    var isInside = false

    @Argument(parsing: .captureForPassthrough, help: "The program and its arguments.")
    var program: [String]

    func validate() throws {
        guard !command.isEmpty else { throw ValidationError("name a program: vusbctl run --guest GUEST -- PROGRAM") }
    }

    private var command: [String] { program.first == "--" ? Array(program.dropFirst()) : program }

    func run() async throws {
        // Before anything else: the guest's network is found by this process.
        guard isInside else { throw ProgramView.restart(arguments, withNetwork: hotplug) }
        var view: ProgramView?
        try await common.run { client in
            let status = try await client.status()
            let info = try await client.guest(guest)
            guard info.nodes else {
                throw Problem(
                    .conflict, "guest \(guest) has no character nodes",
                    remedy: "declare it anew: vusbctl guest rm \(guest), vusbctl guest add \(guest) --nodes")
            }
            // One that is loaded for another process keeps that: `load` says so.
            if info.state != .loaded || hotplug { try await load(client) }
            view = ProgramView(directory: "\(status.mount)/guests/\(guest)")
        }
        // Only comes back where it can't be run.
        if let view { throw view.run(command) }
    }

    /// As this process. Where somebody else loads it just now, that is waited for.
    private func load(_ client: ControlClient) async throws {
        let following = Following(client: client, options: common)
        if let other = try await client.operations().first(where: { $0.isLoading(guest) }) {
            try await following.finish(other)
            guard hotplug else { return }
        }
        try await following.finish(client.load(guest, LoadRequest(process: Int(getpid()))))
    }

    /// As this program was called, and already inside.
    private var arguments: [String] {
        ["run", "--guest", guest, "--is-inside", "--socket", common.socketPath] + (common.json ? ["--json"] : [])
            + (hotplug ? ["--hotplug"] : []) + ["--"] + command
    }
}

extension OperationInfo {
    fileprivate func isLoading(_ name: String) -> Bool { kind == "load" && guest == name && state == .running }
}
