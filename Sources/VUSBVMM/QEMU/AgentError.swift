// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import VUSBCore

/// What goes wrong with a guest agent, in words that name the guest and say what to do.
enum AgentError {
    private static let isMissing =
        "install qemu-guest-agent in the guest and start it (systemctl enable --now qemu-guest-agent); "
        + "the VM needs a virtserialport named org.qemu.guest_agent.0 on that socket"

    private static let isBlocked =
        "allow it in the guest: RHEL, Rocky, Alma, CentOS and Fedora have /etc/sysconfig/qemu-ga: take it out of "
        + "BLACKLIST_RPC (up to 9.1), of BLOCK_RPCS or --block-rpcs (9.2, 9.3), or add it to --allow-rpcs (from 9.4 on); "
        + "elsewhere see block-rpcs and allow-rpcs in /etc/qemu/qemu-ga.conf; "
        + "then systemctl restart qemu-guest-agent"

    // MARK: - The connection

    static func connecting(_ failure: LineSocket.Failure, _ guest: String, _ path: String) -> USBError {
        switch failure {
        case .failed(ENOENT), .failed(ECONNREFUSED):
            return USBError(
                .notFound, "guest \(guest) has no agent: nobody listens at \(path)",
                remedy: "start the VM with -chardev socket,path=\(path),server=on,wait=off,id=ID "
                    + "-device virtio-serial -device virtserialport,chardev=ID,name=org.qemu.guest_agent.0")
        case .failed(EAGAIN): return occupied(guest, path)
        case .failed(EACCES), .failed(EPERM):
            return USBError(
                .accessDenied, "vusbd may not open \(path), the agent's socket of guest \(guest)",
                remedy: "let vusbd's user write to the socket and enter its directory")
        case .failed(ENAMETOOLONG):
            return USBError(
                .invalid, "the path \(path) is too long for a socket", remedy: "use one of at most 107 bytes")
        case .failed(let code):
            return USBError(.io, "connecting to the agent of guest \(guest) at \(path) failed with errno \(code)")
        case .closed, .timedOut, .cancelled:
            return USBError(.gone, "the agent's socket \(path) of guest \(guest) closed")
        }
    }

    private static func occupied(_ guest: String, _ path: String) -> USBError {
        USBError(
            .busy, "the agent's socket \(path) of guest \(guest) takes one client at a time and others wait for it",
            remedy: "end the other client of that socket, or try again when it's done")
    }

    /// The agent couldn't be put in step.
    static func sync(_ failure: LineSocket.Failure, _ guest: String, _ path: String) -> USBError {
        switch failure {
        case .cancelled: cancelled(guest)
        case .timedOut:
            USBError(
                .timedOut, "the agent of guest \(guest) doesn't answer at \(path)",
                remedy: isMissing + "; or another client, such as libvirt, has that socket")
        case .failed(0):
            USBError(
                .invalid, "what guest \(guest) says at \(path) isn't a guest agent's",
                remedy:
                    "name the socket of the virtserialport org.qemu.guest_agent.0, and look who writes to that port "
                    + "in the guest")
        case .closed, .failed:
            USBError(.gone, "QEMU closed the agent's socket \(path) of guest \(guest)", remedy: "start the VM")
        }
    }

    static func answer(
        _ failure: LineSocket.Failure, _ command: String, _ guest: String, _ limit: Duration
    ) -> USBError {
        switch failure {
        case .cancelled: cancelled(guest)
        case .timedOut:
            USBError(
                .timedOut, "the agent of guest \(guest) didn't answer \(command) within \(limit)",
                remedy: "look whether the guest hangs, and restart its qemu-guest-agent")
        case .closed, .failed: USBError(.gone, "the agent of guest \(guest) was lost during \(command)")
        }
    }

    static func cancelled(_ guest: String) -> USBError {
        USBError(.cancelled, "cancelled while speaking to the agent of guest \(guest)")
    }

    // MARK: - Answers

    static func overlong(_ command: String, _ guest: String, _ limit: Int) -> USBError {
        USBError(.io, "the agent of guest \(guest) answered \(command) with more than \(limit) bytes; it was dropped")
    }

    /// It isn't JSON, or has not what such an answer must have.
    static func garbled(_ command: String, _ guest: String) -> USBError {
        USBError(
            .io, "the agent of guest \(guest) answered \(command) with something that makes no sense",
            remedy: "restart qemu-guest-agent in the guest")
    }

    static func refused(_ refusal: QMPRefusal, _ command: String, _ guest: String) -> USBError {
        let says = "guest \(guest) refuses \(command): \(refusal.text)"
        if refusal.errorClass == "CommandNotFound" {
            return refusal.text.contains("frozen") ? frozen(says) : USBError(.unsupported, says, remedy: isBlocked)
        }
        if refusal.text.contains("No such file or directory") { return USBError(.notFound, says) }
        if refusal.text.contains("ermission denied") {
            return USBError(
                .accessDenied, says,
                remedy: "where SELinux confines the agent: setsebool -P virt_qemu_ga_run_unconfined on, or look for "
                    + "virt_qemu_ga_t in the guest's audit log")
        }
        return USBError(.io, says)
    }

    /// A backup is at work: the agent allows next to nothing until it's over.
    private static func frozen(_ says: String) -> USBError {
        USBError(.busy, says, remedy: "try again when the guest's file systems are thawed (guest-fsfreeze-thaw)")
    }

    static func blocked(_ commands: [String], _ guest: String) -> USBError {
        USBError(
            .unsupported, "the agent of guest \(guest) blocks \(commands.joined(separator: ", "))", remedy: isBlocked)
    }

    static func unknown(_ commands: [String], _ guest: String, _ version: String) -> USBError {
        USBError(
            .unsupported, "the agent of guest \(guest), version \(version), has no \(commands.joined(separator: ", "))",
            remedy: "install a newer qemu-guest-agent in the guest (2.5 or later)")
    }
}
