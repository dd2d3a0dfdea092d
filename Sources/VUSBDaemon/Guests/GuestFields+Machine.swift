// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl
internal import VUSBVMM

/// The fields that say how a virtual machine is reached, each by itself and all together.
extension GuestFields {
    func qmp(_ text: String?) throws(Problem) -> String? { try socket("qmp", text) }

    func agent(_ text: String?) throws(Problem) -> String? { try socket("agent", text) }

    private func socket(_ field: String, _ text: String?) throws(Problem) -> String? {
        guard let text else { return nil }
        guard Rules.isSocketPath(text) else {
            throw malformed(field, text, "the absolute path of a socket, at most 107 bytes long")
        }
        return text
    }

    func share(_ text: String?) throws(Problem) -> GuestShare? {
        guard let text else { return nil }
        guard let share = Rules.share(text), let kind = GuestShare.Kind(rawValue: share.kind) else {
            throw malformed("share", text, Rules.shareForm)
        }
        return GuestShare(kind: kind, tag: share.tag)
    }

    /// Nil for a guest on this host.
    /// - Throws: `malformed`, of a value or of `combination`.
    func machine(_ guest: GuestSpec) throws(Problem) -> GuestMachine? {
        let (qmp, agent, share) = (try qmp(guest.qmp), try agent(guest.agent), try share(guest.share))
        if let wrong = combination(guest) { throw wrong.problem }
        return qmp.map { GuestMachine(qmp: $0, agent: agent, share: share) }
    }

    /// The first field that doesn't go with the connector and mode, or that they need and that isn't there.
    func combination(_ guest: GuestSpec) -> (field: String, problem: Problem)? {
        if let wrong = withUSBIP(guest) { return wrong }
        if guest.nodes == true, let wrong = withoutNodes(guest) { return ("nodes", wrong) }
        if guest.heartbeatSeconds != nil, !isOfPrograms(guest) {
            return (
                "heartbeat",
                Problem(
                    .malformed, "guest \(self.guest) has a heartbeat, which only programs with its files can keep up",
                    remedy: "leave it out: a machine's life is known from its monitor and its module")
            )
        }
        guard guest.connector == "qemu" else { return foreign(guest) }
        if guest.qmp == nil { return ("qmp", missing("qmp", of: "connector qemu")) }
        guard guest.mode == "module" else { return nil }
        let field = guest.agent == nil ? "agent" : guest.share == nil ? "share" : nil
        return field.map { ($0, missing($0, of: "mode module")) }
    }

    /// Whether those who have its devices are programs on this host, with the guest's files.
    private func isOfPrograms(_ guest: GuestSpec) -> Bool {
        guest.listen == nil && guest.clients == nil && guest.connector != "qemu"
            && ["files", "auto", nil].contains(guest.mode)
    }

    /// Nodes are this kernel's: another kernel's programs can't open them, and its own drivers need none.
    private func withoutNodes(_ guest: GuestSpec) -> Problem? {
        guard !isOfPrograms(guest) else { return nil }
        return Problem(
            .malformed, "guest \(self.guest) has nodes, which only programs on this host's kernel can open",
            remedy: "leave them out, or declare it with connector local and mode files")
    }

    private func foreign(_ guest: GuestSpec) -> (field: String, problem: Problem)? {
        if guest.mode == "redirect" {
            return (
                "mode",
                Problem(
                    .malformed, "guest \(self.guest) has mode redirect, which needs a virtual machine",
                    remedy: "declare it with connector qemu and the path of its QMP socket, or choose another mode")
            )
        }
        let values = [("qmp", guest.qmp), ("agent", guest.agent), ("share", guest.share)]
        guard let field = values.first(where: { $0.1 != nil })?.0 else { return nil }
        let problem = Problem(
            .malformed,
            "guest \(self.guest) has \(field), which connector \(guest.connector ?? "local") doesn't use",
            remedy: "leave it out, or declare the guest with connector qemu"
        )
        return (field, problem)
    }

    /// - Parameter user: what wants the field.
    func missing(_ field: String, of user: String, _ code: Problem.Code = .malformed) -> Problem {
        let remedies = [
            "qmp": "start QEMU with -qmp unix:PATH,server=on,wait=off, and give that path",
            "agent": """
            start QEMU with -chardev socket,path=PATH,server=on,wait=off,id=agent -device virtio-serial \
            -device virtserialport,chardev=agent,name=org.qemu.guest_agent.0, give that path, and install \
            qemu-guest-agent in the guest; or use mode redirect
            """,
            "share": """
            give virtiofs:TAG or 9p:TAG, and export the directory that `vusbctl guest add` names with virtiofsd or \
            -virtfs; or use mode redirect
            """,
        ]
        return Problem(code, "guest \(guest) has no \(field), which \(user) needs", remedy: remedies[field])
    }
}
