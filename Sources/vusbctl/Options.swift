// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Glibc
import VUSBControl

/// What every command has.
struct CommonOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "The daemon's socket. Default: $VUSB_SOCKET, or \(ControlClient.defaultSocketPath).", valueName: "path"))
    var socket: String?

    @Flag(help: "Print JSON.")
    var json = false

    var socketPath: String {
        if let socket { return socket }
        // SAFETY: nothing changes the environment in this program; the text is copied.
        if let path = unsafe getenv("VUSB_SOCKET") {
            let path = unsafe String(cString: path)
            if !path.isEmpty { return path }
        }
        return ControlClient.defaultSocketPath
    }

    /// Runs with a client. With `--json`, the daemon's problem is printed as JSON too.
    func run(_ body: (ControlClient) async throws -> Void) async throws {
        do {
            try await ControlClient.with(socketPath: socketPath, body)
        } catch let problem as Problem {
            if json { try Output.json(problem) }
            throw Failure(await told(problem))
        }
    }

    /// The problem for people: what an ambiguous name may have meant with how to tell one from the other.
    private func told(_ problem: Problem) async -> Problem {
        guard let candidates = problem.candidates, !candidates.isEmpty else { return problem }
        var told = problem
        do {
            try await ControlClient.with(socketPath: socketPath) { client in
                let devices = try await client.devices()
                told.candidates = candidates.map { id in devices.first { $0.id == id }.map(Candidate.text) ?? id }
            }
        } catch {
            // The ids alone must do.
        }
        return told
    }
}

private enum Candidate {
    /// Such as `1-2 (0525:a4a0:SERIAL, held by web1)`.
    static func text(_ device: DeviceInfo) -> String {
        let name = [device.idVendor, device.idProduct, device.serial].compactMap { $0 }.joined(separator: ":")
        let holder = device.attachment.map { "held by \($0.guest)" } ?? device.state.rawValue
        return "\(device.id) (\(name), \(holder))"
    }
}

/// How devices are taken from their guests.
struct ReleaseOptions: ParsableArguments {
    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            """
            How long to wait for the guest to stop working with a device, and for transfers in flight to end, such as 5s \
            or 500ms; 1h at most. Default: 5s.
            """, valueName: "time"),
        transform: Seconds.within(Rules.deadlines))
    var deadline: Seconds?

    @Option(name: .customLong("on-deadline"), help: "What happens then: refuse, cancel or wait. Default: refuse.")
    var onDeadline: ReleaseRequest.OnDeadline?

    @Flag(name: [.long, .customLong("force")], help: "The same as --on-deadline cancel.")
    var cancel = false

    func validate() throws {
        if cancel, let onDeadline, onDeadline != .cancel {
            throw ValidationError("--cancel and --on-deadline \(onDeadline.rawValue) contradict each other")
        }
    }

    var request: ReleaseRequest {
        ReleaseRequest(deadlineSeconds: deadline?.value, onDeadline: cancel ? .cancel : onDeadline)
    }
}

extension ReleaseRequest.OnDeadline: ExpressibleByArgument {}
