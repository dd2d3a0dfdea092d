// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// What QEMU knows of an agent that doesn't answer: whether it has the socket at all, and whether a program in the guest
/// has opened the port behind it.
enum AgentDiagnosis: Equatable {
    case noSocket
    case portClosed
    case portOpen

    /// - Parameter chardevs: what `query-chardev` answers with. A `filename` is such as `unix:PATH,server=on`, with
    ///   `disconnected:` in front while no client is there.
    init(_ chardevs: JSONValue, path: String) {
        let match = chardevs.array?.first { chardev in
            let words = chardev["filename"]?.string?.split(separator: ",", maxSplits: 1)
            return words?.first.map { $0.hasSuffix("unix:" + path) } ?? false
        }
        switch match?["frontend-open"]?.bool {
        case nil: self = .noSocket
        case false?: self = .portClosed
        case true?: self = .portOpen
        }
    }

    /// The error again, as precise as can be. QEMU may know the socket by another path: that it finds none says nothing
    /// as long as somebody listens there.
    func explain(_ error: USBError, _ guest: String, _ path: String) -> USBError {
        switch (self, error.code) {
        case (.portClosed, .timedOut):
            USBError(
                .timedOut, "no program in guest \(guest) has opened the agent's port",
                remedy:
                    "install qemu-guest-agent in the guest and start it (systemctl enable --now qemu-guest-agent), or "
                    + "wait until the guest has booted")
        case (.portOpen, .timedOut):
            USBError(
                .timedOut, "the agent of guest \(guest) has its port open and doesn't answer at \(path)",
                remedy: "look whether the guest hangs, restart its qemu-guest-agent, and look whether another client, "
                    + "such as libvirt, has that socket")
        case (.noSocket, .notFound):
            USBError(
                .notFound, "\(error.message), and QEMU of guest \(guest) knows of no such socket", remedy: error.remedy)
        default: error
        }
    }
}
