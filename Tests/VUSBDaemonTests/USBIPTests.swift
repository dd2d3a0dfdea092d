// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBControl
import VUSBCore
import VUSBIP
import VUSBTestSupport

@testable import VUSBDaemon

/// Mode `usbip`: what the control plane does with listeners, exports and sessions.
@Suite(.timeLimit(.minutes(1))) struct USBIPTests {
    private static func bench(_ guest: GuestSpec = GuestSpec(name: "pc1", listen: ["tcp:3240", "unix:/run/pc1"]))
        async throws -> Bench
    {
        let bench = try await Bench()
        _ = try await bench.plane.plugIn("emu-a 0525:a4a0")
        _ = try await bench.plane.addGuest(guest)
        return bench
    }

    private static func loaded() async throws -> (Bench, TestExport) {
        let bench = try await bench()
        try await bench.load("pc1")
        try await bench.attach("emu-a", "pc1")
        return (bench, try #require(bench.usbip.exports.first))
    }

    @Test func aLoadOpensItsListenersAndAnUnloadClosesThem() async throws {
        let bench = try await Self.bench()
        let info = try await bench.load("pc1")
        #expect(
            info.steps.map(\.name) == [
                "bound", "published", "clients connect to tcp:3240", "clients connect to unix:/run/pc1",
                "its client: modprobe vhci-hcd; usbip attach -r 127.0.0.1 -b BUSID",
                "its client: modprobe vhci-hcd; vusb-attach unix:/run/pc1 BUSID",
            ])
        #expect(bench.usbip.addresses == ["tcp 127.0.0.1 port 3240", "unix /run/pc1"])
        _ = try await bench.unload("pc1")
        #expect(bench.usbip.addresses.isEmpty)
        await bench.close()
    }

    @Test func aListenerThatCannotBeHadFailsTheLoadAndLeavesNothing() async throws {
        let bench = try await Self.bench()
        bench.usbip.fail(USBError(.io, "port 3240 is in use", remedy: "choose another one"))
        let info = try await bench.loadFails("pc1")
        #expect(info.error?.detail.contains("port 3240 is in use") == true)
        #expect(bench.usbip.addresses.isEmpty)
        await bench.close()
    }

    @Test func aDeviceIsOfferedUnderItsPathAndTakenBack() async throws {
        let (bench, export) = try await Self.loaded()
        #expect(export.place == USBIPPlace(guest: "pc1", path: "1-1", busNumber: 1, deviceNumber: 2))
        let info = try await bench.plane.guest("pc1")
        #expect(info.attachments.map(\.mode) == ["usbip"])
        #expect(info.attachments.map(\.state) == ["free"])
        #expect(try await bench.detach("emu-a").state == .succeeded)
        #expect(export.journal == ["quiet", "end"])
        await bench.close()
    }

    @Test func aClientThatWorksWithItKeepsIt() async throws {
        let (bench, export) = try await Self.loaded()
        export.change { $0 = USBIPStatus(state: .imported, peer: "test", idle: .zero) }
        let info = try await bench.detach("emu-a")
        #expect(info.error?.detail.contains("works with it") == true)
        #expect(bench.usbip.offered.count == 1)
        #expect(try await bench.state("emu-a") == .attached)
        await bench.close()
    }

    @Test func whoHasImportedItIsShown() async throws {
        let (bench, export) = try await Self.loaded()
        let before = try #require(await bench.plane.guest("pc1").attachments.first)
        #expect(before.peer == nil && before.idleSeconds == nil)
        export.change { $0 = USBIPStatus(state: .imported, peer: "10.0.0.7 port 40000", idle: .seconds(90)) }
        let info = try #require(await bench.plane.guest("pc1").attachments.first)
        #expect(info.peer == "10.0.0.7 port 40000")
        #expect(info.idleSeconds == 90)
        #expect(info.busy.isEmpty)
        await bench.close()
    }

    @Test func aKeyboardThatItsDriverPollsIsNotBusy() async throws {
        let bench = try await Self.bench()
        _ = try await bench.plane.plugIn("emu-keyboard 0525:a4ac")
        try await bench.load("pc1")
        try await bench.attach("emu-keyboard", "pc1")
        try await bench.attach("emu-a", "pc1")
        try await bench.submitRead("emu-keyboard")
        let polled = try #require(await bench.plane.device("emu-keyboard").attachment)
        #expect(polled.urbsInFlight == 1)
        #expect(polled.busy.isEmpty)
        try await bench.submitRead("emu-a")
        #expect(try await bench.plane.device("emu-a").attachment?.busy == ["1 URB in flight"])
        #expect(try await bench.detach("emu-keyboard").state == .succeeded)
        await bench.close()
    }

    @Test func afterASessionItIsResetAndOfferedAgain() async throws {
        let (bench, export) = try await Self.loaded()
        let before = await bench.lastSequence
        bench.usbip.end(export, .vanished)
        let told = await bench.event("guest-channel", after: before)
        #expect(told?.detail == "1-1: no longer imported by 'test': the peer has vanished")
        _ = await bench.event("operation", after: before) { $0.detail?.hasSuffix("succeeded") == true }
        #expect(await bench.plane.operations().last?.kind == "reset")
        #expect(export.journal == ["readmit", "resume"])
        #expect(try await bench.state("emu-a") == .attached)
        await bench.close()
    }

    @Test func afterASessionWhoWaitsForItHasIt() async throws {
        let (bench, export) = try await Self.loaded()
        _ = try await bench.plane.addGuest(GuestSpec(name: "web1"))
        try await bench.load("web1")
        let request = try await bench.plane.requestDevice("emu-a", AttachRequest(guest: "web1"))
        bench.usbip.end(export)
        #expect(try await bench.finish(request).state == .succeeded)
        #expect(try await bench.plane.device("emu-a").attachment?.guest == "web1")
        #expect(export.journal.last == "end")
        await bench.close()
    }

    @Test func aClientIsOneGuestOnly() async throws {
        let bench = try await Self.bench(GuestSpec(name: "pc1", clients: ["cid:3", "user:root"]))
        let problem = await problem { _ = try await bench.plane.addGuest(GuestSpec(name: "pc2", clients: ["user:0"])) }
        #expect(problem?.code == .conflict)
        #expect(problem?.detail.contains("guest pc1 is") == true)
        try await bench.plane.removeGuest("pc1")
        _ = try await bench.plane.addGuest(GuestSpec(name: "pc2", clients: ["user:0"]))
        await bench.close()
    }

    @Test func oneThatIsThereAlreadyGetsNoMoreClients() async throws {
        let bench = try await Self.bench(GuestSpec(name: "pc1", clients: ["cid:3"]))
        let twice = await problem { _ = try await bench.plane.addGuest(GuestSpec(name: "pc1", clients: ["cid:9"])) }
        #expect(twice?.detail == "there is a guest pc1 already")
        #expect(await bench.plane.usbipClients.guest(of: .machine(cid: 9)) == nil)
        await bench.close()
    }

    @Test func aUserThatThereIsNotIsNamedWithTheRemedy() async throws {
        let bench = try await Bench()
        let guest = GuestSpec(name: "pc1", clients: ["user:no-such-user"])
        let problem = await problem { _ = try await bench.plane.addGuest(guest) }
        #expect(problem?.code == .malformed)
        #expect(
            problem?.detail == "guest pc1 can't be known as 'user:no-such-user': this host has no user 'no-such-user'")
        #expect(problem?.remedy == "make the user first (useradd), or give a number, such as user:1000")
        await bench.close()
    }

    @Test(arguments: [
        ("tcp:3240", "tcp:127.0.0.1:3240", true), ("tcp:3240", "tcp:0.0.0.0:3240", true),
        ("tcp:[::]:3240", "tcp:10.0.0.1:3240", true), ("tcp:[::]:3240", "tcp:[::1]:3240", true),
        ("tcp:[::ffff:127.0.0.1]:3240", "tcp:3240", true), ("tcp:[0:0::1]:3240", "tcp:[::1]:3240", true),
        ("tcp:3240", "tcp:3241", false), ("tcp:127.0.0.1:3240", "tcp:127.0.0.2:3240", false),
        ("tcp:0.0.0.0:3240", "tcp:[::1]:3240", false), ("tcp:[::1]:3240", "tcp:3240", false),
        ("unix:/run//a/./b", "unix:/run/a/b", true), ("unix:/run/a", "unix:/run/b", false),
        ("vsock:1", "vsock:1", true), ("vsock:1", "vsock:2", false), ("vsock:3240", "tcp:3240", false),
    ])
    func anAddressIsOneGuestsOnly(first: String, second: String, collide: Bool) async throws {
        let bench = try await Self.bench(GuestSpec(name: "pc1", listen: [first]))
        let problem = await problem { _ = try await bench.plane.addGuest(GuestSpec(name: "pc2", listen: [second])) }
        #expect((problem != nil) == collide)
        if collide {
            #expect(problem?.code == .conflict)
            #expect(problem?.detail.contains("guest pc2 can't listen at ") == true)
            #expect(problem?.detail.contains(": guest pc1 does so at ") == true)
            try await bench.plane.removeGuest("pc1")
            _ = try await bench.plane.addGuest(GuestSpec(name: "pc2", listen: [second]))
        }
        await bench.close()
    }

    @Test func addressesOfAllGuestsAreNoGuests() async throws {
        let bench = try await Bench()
        try await bench.plane.listen(at: [USBIPListenerSpec(address: .vsock(port: 3240))])
        let problem = await problem {
            _ = try await bench.plane.addGuest(GuestSpec(name: "pc1", listen: ["vsock:3240"]))
        }
        #expect(problem?.code == .conflict && problem?.remedy?.contains("--client") == true)
        let own = GuestSpec(name: "pc1", listen: ["tcp:3240", "tcp:0.0.0.0:3240"])
        #expect(await VUSBDaemonTests.problem { _ = try await bench.plane.addGuest(own) }?.code == .malformed)
        for listener in bench.usbip.listeners { await listener.end() }
        await bench.close()
    }

    @Test func certificatesHaveARecipeWithATunnel() async throws {
        let bench = try await Self.bench(
            GuestSpec(name: "pc1", clients: ["certificate:pc1"], devices: ["emu-a"]))
        await bench.plane.share(
            USBIPListenerSpec(
                address: .tcp(host: "10.0.0.1", port: 3241),
                tls: USBIPListenerSpec.TLS(certificate: "c", key: "k", authority: "a")))
        let info = try await bench.load("pc1")
        #expect(
            info.steps.last?.name == "its client: socat TCP-LISTEN:13240,bind=127.0.0.1,fork,reuseaddr "
                + "OPENSSL:10.0.0.1:3241,cert=CERTIFICATE,key=KEY,cafile=AUTHORITY & sleep 1; modprobe vhci-hcd; "
                + "usbip --tcp-port 13240 attach -r 127.0.0.1 -b 1-1")
        await bench.close()
    }

    // MARK: - Doctor

    @Test func doctorTellsOfListeners() async throws {
        let bench = try await Self.bench(GuestSpec(name: "pc1", listen: ["tcp:3240"]))
        _ = try await bench.plane.addGuest(GuestSpec(name: "pc2", listen: ["tcp:0.0.0.0:3241"]))
        #expect(await bench.plane.usbipFindings().map(\.level) == [.ok, .warning])
        bench.usbip.fail(USBError(.io, "the port is taken", remedy: "choose another one"))
        let taken = await bench.plane.usbipFindings()
        #expect(taken.map(\.check) == ["usbip tcp:127.0.0.1:3240", "usbip tcp:0.0.0.0:3241"])
        #expect(taken.first?.summary == "guest pc1 can't be loaded in mode usbip: the port is taken")
        #expect(taken.first?.remedy == "choose another one")
        bench.usbip.fail(nil)
        try await bench.load("pc1")
        try await bench.load("pc2")
        bench.usbip.fail(USBError(.io, "the port is taken"))
        let open = await bench.plane.usbipFindings()
        #expect(open.first?.summary == "open to clients of guest pc1")
        #expect(open.last?.summary == "whoever reaches it is guest pc2, and nothing is encrypted")
        #expect(open.last?.remedy?.contains("certificate:NAME") == true)
        await bench.close()
    }

    @Test func identitiesAreFound() {
        let clients = USBIPClients()
        #expect(clients.add([.machine(cid: 3)], of: "vm1") == nil)
        #expect(clients.add([.user(1000), .certificate(commonName: "laptop")], of: "pc1") == nil)
        #expect(clients.guest(of: .machine(cid: 3)) == "vm1")
        #expect(clients.guest(of: .machine(cid: 4)) == nil)
        #expect(clients.guest(of: .user(uid: 1000, gid: 1, process: 7)) == "pc1")
        #expect(clients.guest(of: .certificate(fingerprint: "00", commonName: "laptop")) == "pc1")
        #expect(clients.guest(of: .address("127.0.0.1")) == nil)
        clients.remove("pc1")
        #expect(clients.guest(of: .user(uid: 1000, gid: 1, process: 7)) == nil)
    }

    @Test(arguments: [
        ("tcp:3240", USBIPAddress.tcp(host: "127.0.0.1", port: 3240)),
        ("tcp:10.0.0.1:99", .tcp(host: "10.0.0.1", port: 99)),
        ("tcp:[::1]:3240", .tcp(host: "::1", port: 3240)), ("unix:/run/x", .unix(path: "/run/x")),
        ("vsock:5", .vsock(port: 5)),
    ])
    func addressesAreRead(text: String, address: USBIPAddress) { #expect(USBIPAddress(text) == address) }

    @Test(arguments: [
        "", "tcp", "tcp:", "tcp:0", "tcp:65536", "tcp:localhost:3240", "tcp:::1:3240", "tcp:[::1]", "tcp:[::1]3240",
        "unix:run", "unix:", "vsock:-1", "vsock:4294967295", "udp:3240", "tcp:03240", "tcp:\u{11}:3240",
        "tcp:0.0.0.0.0:3240", "tcp:1:3240", "tcp:[1:2]:3240",
    ])
    func otherAddressesAreNot(text: String) { #expect(USBIPAddress(text) == nil) }

    @Test(arguments: [
        (GuestSpec(name: "pc1", mode: "usbip"), "nothing says how its clients find it"),
        (GuestSpec(name: "pc1", mode: "files", listen: ["tcp:3240"]), "which mode files doesn't use"),
        (GuestSpec(name: "pc1", nodes: true, listen: ["tcp:3240"]), "only programs on this host's kernel"),
    ])
    func whatDoesNotGoTogetherIsRefused(guest: GuestSpec, text: String) async throws {
        let bench = try await Bench()
        let problem = await problem { _ = try await bench.plane.addGuest(guest) }
        #expect(problem?.detail.contains(text) == true)
        await bench.close()
    }

    @Test func oneThatIsKnownByItsClientsNeedsAListener() async throws {
        let bench = try await Self.bench(GuestSpec(name: "pc1", clients: ["cid:3"]))
        let info = try await bench.loadFails("pc1")
        #expect(info.error?.detail.contains("there is no listener") == true)
        try await bench.plane.listen(at: [USBIPListenerSpec(address: .vsock(port: 3240))])
        try await bench.load("pc1")
        for listener in bench.usbip.listeners { await listener.end() }
        await bench.close()
    }

    @Test func addressesAndClientsAreOneConfiguredGuestsOnly() {
        let text = """
            guests:
              a: {listen: ["tcp:3240", "tcp:127.0.0.1:3240"], clients: ["cid:3"]}
              b: {listen: ["tcp:127.0.0.1:3240"]}
              c: {listen: ["tcp:3241"], clients: ["cid:4", "cid:3"]}
              d: {listen: ["tcp:[::]:3240"]}
            """
        #expect {
            _ = try ConfigurationFile.parse(text, path: "vusb.yaml")
        } throws: { error in
            let faults = (error as? ConfigurationError)?.faults ?? []
            return faults.map { "\($0.line ?? 0) \($0.key ?? "")" } == [
                "3 guests.b.listen", "4 guests.c.clients", "5 guests.d.listen",
            ]
                && faults.allSatisfy { $0.message.hasSuffix("is guest a's already") && $0.remedy != nil }
        }
    }

    @Test func anAddressOfAllGuestsIsNoConfiguredGuests() {
        let text = """
            usbip:
              - listen: unix:/run/usbip
            guests:
              a: {listen: ["unix:/run//usbip"]}
            """
        #expect {
            _ = try ConfigurationFile.parse(text, path: "vusb.yaml")
        } throws: { error in
            let faults = (error as? ConfigurationError)?.faults ?? []
            return faults.map(\.message) == ["'unix:/run//usbip' is all guests' already"]
        }
    }

    @Test func listenersAreReadFromTheConfiguration() throws {
        let configuration = try ConfigurationFile.parse(
            """
            usbip:
              - listen: vsock:3240
              - {listen: "tcp:0.0.0.0:3241", certificate: /etc/c.pem, key: /etc/k.pem, authority: /etc/a.pem}
            guests:
              pc1: {listen: ["tcp:3240"], clients: ["cid:3"]}
            """, path: "vusb.yaml")
        let tls = USBIPListenerSpec.TLS(certificate: "/etc/c.pem", key: "/etc/k.pem", authority: "/etc/a.pem")
        #expect(
            configuration.usbip == [
                USBIPListenerSpec(address: .vsock(port: 3240)),
                USBIPListenerSpec(address: .tcp(host: "0.0.0.0", port: 3241), tls: tls),
            ])
        #expect(configuration.guests.first?.specification.clients == ["cid:3"])
        #expect {
            _ = try ConfigurationFile.parse(
                """
                usbip:
                  - listen: tcp:3240
                  - {listen: "vsock:1", key: /etc/k.pem}
                  - {key: /etc/k.pem}
                guests:
                  pc1: {listen: [3240]}
                  pc2: {mode: usbip}
                """, path: "vusb.yaml")
        } throws: { error in
            Set(((error as? ConfigurationError)?.faults ?? []).map(\.line)) == [2, 3, 4, 6, 7]
        }
    }
}
