// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBControl
import VUSBVMM

@testable import VUSBDaemon

/// How a virtual machine is reached: which fields go together, and what follows from them.
@Suite struct GuestDefinitionTests {
    private static let connectors = ["local", "qemu"]

    private static func machine(
        mode: String? = nil, qmp: String? = "/run/qmp", agent: String? = "/run/agent", share: String? = "virtiofs:vusb",
        policy: String? = nil
    ) -> GuestSpec {
        GuestSpec(
            name: "vm1", connector: "qemu", mode: mode, qmp: qmp, agent: agent, share: share, policy: policy)
    }

    private static func definition(_ guest: GuestSpec) throws(Problem) -> GuestDefinition {
        try GuestDefinition(guest, connectors: connectors)
    }

    @Test func machineHasItsPlaceAndItsShare() throws {
        let guest = try Self.definition(Self.machine(mode: "module", policy: "on-demand"))
        #expect(guest.place(process: nil) == GuestPlace(monitorSocket: "/run/qmp", agentSocket: "/run/agent"))
        #expect(guest.share(mount: "/vusb") == GuestShare(kind: .virtiofs, tag: "vusb", path: "/vusb"))
        #expect(guest.channelPath(mount: "/elsewhere") == "/vusb/hcd")
        #expect(guest.policy == .onDemand)
        let ninep = try Self.definition(Self.machine(share: "9p:usb"))
        #expect(ninep.share(mount: "/vusb") == GuestShare(kind: .ninep, tag: "usb", path: "/vusb"))
    }

    @Test func guestOnThisHostSeesItsDirectoryWhereItIs() throws {
        let guest = try Self.definition(GuestSpec(name: "web1", mode: "module"))
        #expect(guest.share(mount: "/srv/vusb") == GuestShare(kind: .host, path: "/srv/vusb/guests/web1"))
        #expect(guest.channelPath(mount: "/srv/vusb") == "/srv/vusb/guests/web1/hcd")
        #expect(guest.policy == .manual)
        let process = GuestProcess(pid: 7, startTime: 1)
        #expect(guest.place(process: process) == GuestPlace(process: process))
    }

    @Test(arguments: [
        (machine(qmp: nil), "qmp", "-qmp unix:PATH,server=on,wait=off"),
        (machine(mode: "files", qmp: nil, agent: nil, share: nil), "qmp", "-qmp"),
        (machine(mode: "module", agent: nil), "agent", "org.qemu.guest_agent.0"),
        (machine(mode: "module", share: nil), "share", "virtiofs:TAG"),
        (machine(mode: "module", agent: nil, share: nil), "agent", "mode redirect"),
        (GuestSpec(name: "vm1", qmp: "/run/qmp"), "qmp", "connector qemu"),
        (GuestSpec(name: "vm1", connector: "local", agent: "/run/agent"), "agent", "connector qemu"),
        (GuestSpec(name: "vm1", mode: "module", share: "virtiofs:vusb"), "share", "connector qemu"),
        (machine(qmp: "qmp"), "qmp", "absolute path"), (machine(agent: "/"), "agent", "absolute path"),
        (machine(agent: "/" + String(repeating: "a", count: 107)), "agent", "107 bytes"),
        (machine(share: "nfs:vusb"), "share", "virtiofs:TAG"), (machine(share: "9p:-o"), "share", "9p:TAG"),
        (machine(policy: "always"), "policy", "on-demand"),
    ])
    func whatDoesNotGoTogetherIsMalformedWithItsRemedy(guest: GuestSpec, field: String, remedy: String) {
        let problem = #expect(throws: Problem.self) { try Self.definition(guest) }
        #expect(problem?.code == .malformed)
        #expect(problem?.detail.contains("guest vm1") == true)
        #expect(problem?.detail.contains(field) == true, "\(problem?.detail ?? "")")
        #expect(problem?.remedy?.contains(remedy) == true, "\(problem?.remedy ?? "")")
    }

    @Test(arguments: [
        (machine(), nil, GuestMode.module), (machine(mode: "auto"), "auto", .module),
        (machine(agent: nil, share: nil), nil, .files), (machine(mode: "files"), nil, .files),
        (machine(mode: "files"), "module", .module), (machine(), "files", .files),
        (machine(mode: "module"), "auto", .module),
    ])
    func modeIsAsAskedForElseAsDeclaredElseTheBestThatIsPossible(
        guest: GuestSpec, asked: String?, mode: GuestMode
    ) throws {
        #expect(try Self.definition(guest).mode(asked: asked, among: [.module, .files]) == mode)
    }

    @Test func modeThatTheDeclarationDoesNotSufficeForIsAConflictThatNamesTheField() throws {
        let files = try Self.definition(Self.machine(mode: "files", agent: nil, share: nil))
        let agent = #expect(throws: Problem.self) { try files.mode(asked: "module", among: [.module, .files]) }
        #expect(agent?.code == .conflict)
        #expect(agent?.detail == "guest vm1 has no agent, which mode module needs")
        let half = try Self.definition(Self.machine(mode: "files", share: nil))
        let share = #expect(throws: Problem.self) { try half.mode(asked: "module", among: [.module, .files]) }
        #expect(share?.detail == "guest vm1 has no share, which mode module needs")
        let other = #expect(throws: Problem.self) { try files.mode(asked: nil, among: [.module]) }
        #expect(other?.remedy?.contains("module") == true)
    }
}
