// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore

@testable import VUSBVMM

/// A guest that attaches from inside: the steps and cases of Attach.md.
@Suite struct AttachTests {
    private typealias Call = (FakeGuest.Call, FakeGuest.Answer)

    private let folder: TemporaryFolder
    private static let vsock = AttachAddress.vsock(port: 3240)
    private static let tcp = AttachAddress.tcp(host: "127.0.0.1", port: 3240)
    private static let unix = AttachAddress.unix(path: "/run/vm1/usbip")
    /// The net 10.0.2.0, and the default route by 10.0.2.2.
    private static let userNetwork = ["route 0002000A 00000000", "route 00000000 0202000A"]
    private static let port = "port /dev/vport1p2 org.vusb.usbip.0"
    private static let vhciOut: [Call] = [
        (
            .facts(at: "/", brief: true),
            FakeGuest.brief(["module vhci_hcd 0 - Live", "module usbip_core 1 vhci_hcd, Live"])
        ),
        (.vhciPorts, .lines(["vusb-vhci-ports-1", "end 1"])), (.rmmod("vhci_hcd"), .done),
        (.rmmod("usbip_core"), .done),
    ]
    private static let copied: [Call] = [
        (.makeDirectory, .directory(below: "/run")), (.write("/run/DIR/vusb-attach"), .done),
        (.makeProgram("/run/DIR/vusb-attach"), .exit(0)),
    ]

    init() throws {
        folder = try TemporaryFolder()
        try folder.write("vusb-attach", Self.program(machine: 62))
    }

    /// The header of an ELF program (ET_EXEC) for that processor; 62 is x86-64.
    private static func program(machine: UInt8, type: UInt8 = 2) -> [UInt8] {
        [0x7f, 0x45, 0x4c, 0x46, 2, 1, 1] + Array(repeating: 0, count: 9) + [type, 0, machine, 0]
            + Array(repeating: 0, count: 44)
    }

    private static func facts(_ lines: [String], copy: String = "") -> Call {
        (
            .attachFacts(copy: copy),
            .lines(
                [
                    "vusb-attach-facts-1", "release 6.1.0-56-amd64", "machine x86_64", "uid 0",
                    "boot \(FakeGuest.bootID)",
                ]
                    + lines + ["end 1"])
        )
    }

    private static func list(_ program: String, _ arguments: [String], _ code: Int = 0) -> Call {
        (.program([program] + arguments), .exit(code))
    }

    private func load(
        _ calls: [Call], _ addresses: [AttachAddress] = [Self.vsock, Self.tcp, Self.unix], helper: String? = nil,
        before: LoadedModules? = nil, steps: Steps = Steps()
    ) async throws(USBError) -> AttachLoad {
        let guest = FakeGuest(calls)
        defer { #expect(guest.isDone) }
        return try await ModuleLoader(kernel: guest, store: ModuleStore(directories: [])) { _ in }.loadClient(
            addresses, helper: AttachHelper(places: [helper ?? "\(folder.path)/vusb-attach"]), before: before
        ) { steps.add($0) }
    }

    private func failure(
        _ calls: [Call], _ addresses: [AttachAddress] = [Self.vsock, Self.tcp, Self.unix], helper: String? = nil
    ) async -> USBError? {
        do throws(USBError) {
            let load = try await load(calls, addresses, helper: helper)
            Issue.record("loaded \(load)")
            return nil
        } catch {
            return error
        }
    }

    // MARK: - Streams

    @Test(
        arguments: [
            (
                [AttachTests.vsock, AttachTests.tcp, AttachTests.unix],
                ["vsock 1", AttachTests.port] + AttachTests.userNetwork,
                ["vsock:2:3240", "tcp:10.0.2.2:3240", "serial:/dev/vport1p2"]
            ),
            ([AttachTests.vsock, AttachTests.tcp, AttachTests.unix], [], []),
            ([AttachTests.tcp], ["route 0000A8C0 00000000", "route 00000000 0100A8C0"], []),
            (
                [.tcp(host: "0.0.0.0", port: 99)], ["route 0000A8C0 00000000", "route 00000000 0100A8C0"],
                ["tcp:192.168.0.1:99"]
            ),
            (
                [.tcp(host: "192.168.7.1", port: 3240), .tcp(host: "fd00::1", port: 1)], [],
                ["tcp:192.168.7.1:3240", "tcp:[fd00::1]:1"]
            ),
            (
                [AttachTests.unix],
                ["port /dev/vport1p3 org.vusb.usbip.1", AttachTests.port, "port /dev/vport1p1 org.qemu.guest_agent.0"],
                ["serial:/dev/vport1p2", "serial:/dev/vport1p3"]
            ),
            (
                [AttachTests.unix, AttachTests.tcp],
                ["port /etc/passwd org.vusb.usbip.0", "port /dev/x", "route x y", "route 1", "vsock yes"], []
            ),
            (
                // More gateways than are asked, 10.0.0.1 and so on, the first of them twice.
                [.tcp(host: "0.0.0.0", port: 99)],
                ["route 00000000 0100000A"] + (1...9).map { "route 00000000 0\($0)00000A" },
                (1...8).map { "tcp:10.0.0.\($0):99" }
            ),
        ] as [([AttachAddress], [String], [String])])
    func aStreamIsWhereTheGuestGetsToVusbd(addresses: [AttachAddress], lines: [String], expected: [String]) throws {
        guard case .result(let result) = Self.facts(lines).1,
            let answer = GuestAnswer(parsing: result.output, of: "vusb-attach-facts-1")
        else { return #expect(Bool(false)) }
        let facts = try AttachFacts(answer, guest: "guest web1")
        #expect(facts.streams(to: addresses).map(\.description) == expected)
    }

    /// The command with it is shown to people, to be typed into a shell of root's.
    @Test(
        "a path that means something to a shell is none",
        arguments: ["$(x)", "`x`", "'x", "\"x", "a;x", "a|x", "a&x", "a>x", "\\x", "a*", "~", "a{b,c}", "!x", "\u{e9}"])
    func pathOfAShell(name: String) throws {
        #expect(AttachFacts.path("/dev/\(name)") == nil)
        guard case .result(let result) = Self.facts([Self.port, "port /dev/\(name) org.vusb.usbip.1"]).1 else {
            return #expect(Bool(false))
        }
        let answer = try #require(GuestAnswer(parsing: result.output, of: "vusb-attach-facts-1"))
        let facts = try AttachFacts(answer, guest: "guest web1")
        #expect(facts.streams(to: [Self.unix]) == [.serial(path: "/dev/vport1p2")])
    }

    @Test(arguments: ["/dev/virtio-ports/org.vusb.usbip.0", "/opt/a_b+c/usbip"])
    func aPlainPathIsTaken(path: String) { #expect(AttachFacts.path(path) == path) }

    @Test func theRecipeIsWhatAPersonTypes() {
        let addresses = [Self.tcp, .tcp(host: "10.0.0.1", port: 99), Self.vsock, Self.unix]
        #expect(
            AttachRecipe.lines(addresses, isMachine: true) == [
                "modprobe vhci-hcd; usbip attach -r 10.0.2.2 -b BUSID",
                "modprobe vhci-hcd; usbip --tcp-port 99 attach -r 10.0.0.1 -b BUSID",
                "modprobe vhci-hcd; vusb-attach vsock:2:3240 BUSID",
                "modprobe vhci-hcd; vusb-attach -d serial:/dev/virtio-ports/org.vusb.usbip.0 BUSID",
            ])
        #expect(
            AttachRecipe.lines([Self.tcp, Self.unix], isMachine: false) == [
                "modprobe vhci-hcd; usbip attach -r 127.0.0.1 -b BUSID",
                "modprobe vhci-hcd; vusb-attach unix:/run/vm1/usbip BUSID",
            ])
        #expect(
            AttachRecipe.lines([Self.vsock], isMachine: true, busIDs: ["1-1", "1-2"]) == [
                "modprobe vhci-hcd; vusb-attach vsock:2:3240 1-1; vusb-attach vsock:2:3240 1-2"
            ])
        #expect(
            AttachRecipe.lines([Self.unix], isMachine: true, busIDs: ["1-1", "1-2"]) == [
                "modprobe vhci-hcd; vusb-attach -d serial:/dev/virtio-ports/org.vusb.usbip.0 1-1; "
                    + "vusb-attach -d serial:/dev/virtio-ports/org.vusb.usbip.1 1-2"
            ])
        #expect(
            AttachRecipe.lines([.tls(host: "::1", port: 99)], isMachine: false, busIDs: ["1-1"]) == [
                "socat TCP-LISTEN:13240,bind=127.0.0.1,fork,reuseaddr OPENSSL:[::1]:99,cert=CERTIFICATE,key=KEY,"
                    + "cafile=AUTHORITY & sleep 1; modprobe vhci-hcd; usbip --tcp-port 13240 attach -r 127.0.0.1 -b 1-1"
            ])
    }

    @Test("the helper on this host: none, no program, static or not, to be run by people or not")
    func look() throws {
        let helper = AttachHelper(places: ["\(folder.path)/nope", "\(folder.path)/vusb-attach"])
        let found = try helper.look()
        #expect(found == AttachHelper.Look(path: "\(folder.path)/vusb-attach", isStatic: true, isExecutable: false))
        try folder.write("vusb-attach", Self.dynamic())
        #expect(try !helper.look().isStatic)
        // Headers beyond the file's end are none.
        var cut = Self.dynamic()
        cut.removeLast(54)
        try folder.write("vusb-attach", cut)
        #expect(try helper.look().isStatic)
        try folder.write("vusb-attach", Array("#!/bin/sh\n".utf8))
        #expect(throws: USBError.self) { try helper.look() }
        let none = #expect(throws: USBError.self) { try AttachHelper(places: ["/nope"]).look() }
        #expect(none?.code == .notFound)
    }

    /// With one program header, which names an interpreter (PT_INTERP).
    private static func dynamic() -> [UInt8] {
        var bytes = program(machine: 62)
        (bytes[32], bytes[54], bytes[56]) = (64, 56, 1)
        return bytes + [3, 0, 0, 0] + Array(repeating: 0, count: 52)
    }

    // MARK: - Load

    @Test("A4, A6: the module is loaded, the guest's own helper used, with the first stream that answers")
    func ownHelper() async throws {
        let steps = Steps()
        let load = try await load(
            [
                Self.facts(["tool.vusb-attach /usr/bin/vusb-attach", "vsock 1"] + Self.userNetwork),
                (.loadVHCI, .exit(0)),
                Self.list("/usr/bin/vusb-attach", ["-l", "vsock:2:3240"], 1),
                Self.list("/usr/bin/vusb-attach", ["-l", "tcp:10.0.2.2:3240"]),
            ], steps: steps)
        #expect(
            load.way
                == AttachWay(
                    program: .helper("/usr/bin/vusb-attach"), streams: [.tcp(host: "10.0.2.2", port: 3240)]))
        #expect(load.loaded == LoadedModules(bootID: FakeGuest.bootID, modules: ["usbip_core", "vhci_hcd"]))
        #expect(steps.all == ["loading vhci-hcd", "by vusb-attach, over tcp:10.0.2.2:3240"])
    }

    @Test("A5: its usbip serves where TCP answers; a vhci_hcd that is there isn't ours")
    func ownUSBIP() async throws {
        let load = try await load([
            Self.facts(["tool.usbip /usr/sbin/usbip", "vhci 1", "vsock 1"] + Self.userNetwork),
            Self.list("/usr/sbin/usbip", ["list", "-r", "10.0.2.2"]),
        ])
        #expect(
            load.way == AttachWay(program: .usbip("/usr/sbin/usbip"), streams: [.tcp(host: "10.0.2.2", port: 3240)]))
        #expect(load.loaded.isEmpty)
    }

    @Test("A5: the helper is copied where there is nothing, and serial ports aren't asked")
    func copiedHelper() async throws {
        let steps = Steps()
        let load = try await load(
            [Self.facts(["vhci 1", Self.port])] + Self.copied, [Self.unix], steps: steps)
        let directory = try #require(load.loaded.helperDirectory)
        #expect(directory.hasPrefix("/run/vusb-"))
        #expect(
            load.way
                == AttachWay(program: .helper(directory + "/vusb-attach"), streams: [.serial(path: "/dev/vport1p2")]))
        #expect(steps.all == ["copying vusb-attach, 0 KiB", "by vusb-attach, over serial:/dev/vport1p2"])
    }

    @Test("A5: the helper is copied where usbip doesn't reach vusbd")
    func helperBesideUSBIP() async throws {
        let load = try await load(
            [
                Self.facts(["vhci 1", "tool.usbip /usr/sbin/usbip", Self.port] + Self.userNetwork),
                Self.list("/usr/sbin/usbip", ["list", "-r", "10.0.2.2"], 1),
            ] + Self.copied + [Self.list("/run/DIR/vusb-attach", ["-l", "tcp:10.0.2.2:3240"], 1)])
        #expect(load.way.streams == [.serial(path: "/dev/vport1p2")])
    }

    @Test("C14: what an earlier vusbd has copied is used, and is ours yet", arguments: [true, false])
    func helperOfBefore(isSameBoot: Bool) async throws {
        let before = LoadedModules(
            bootID: isSameBoot ? FakeGuest.bootID : "another", modules: [], helperDirectory: "/run/vusb-1")
        let load = try await load(
            [Self.facts(["vhci 1", Self.port, "copy 1"], copy: "/run/vusb-1/vusb-attach")]
                + (isSameBoot ? [] : Self.copied), [Self.unix], before: before)
        #expect((load.loaded.helperDirectory == "/run/vusb-1") == isSameBoot)
    }

    // MARK: - Failures

    @Test("A3: no stream to where vusbd listens") func noStream() async {
        let error = await failure([Self.facts(["vhci 1"])])
        #expect(error?.code == .unsupported)
        #expect(error?.message == "find a stream: the guest has none to where vusbd listens for it")
        #expect(await failure([Self.facts(["vsock 1"])], [])?.remedy?.contains("shared listener") == true)
    }

    @Test("C3: the kernel has no vhci-hcd; what came of it is undone") func noModule() async {
        let error = await failure([
            Self.facts(["vsock 1"]), (.loadVHCI, .exit(3, errors: "modprobe: FATAL: Module vhci-hcd not found.\n")),
            (.facts(at: "/", brief: true), FakeGuest.brief()),
        ])
        #expect(error?.code == .notFound)
        #expect(error?.message == "load vhci-hcd: modprobe: FATAL: Module vhci-hcd not found.")
        #expect(error?.remedy?.contains("linux-modules-extra") == true)
    }

    @Test("A4: an agent that isn't root loads nothing") func notRoot() async {
        let error = await failure(
            [Self.facts(["uid 1000", "vsock 1"]).self].map { call in
                (call.0, Self.asUser(call.1))
            })
        #expect(error?.code == .accessDenied)
    }

    private static func asUser(_ answer: FakeGuest.Answer) -> FakeGuest.Answer {
        guard case .result(let result) = answer else { return answer }
        return .lines(
            String(decoding: result.output, as: UTF8.self).split(separator: "\n").map(String.init)
                .filter { $0 != "uid 0" })
    }

    @Test("C4: there is no helper, or one for another processor", arguments: [nil, 183 as UInt8])
    func noHelper(machine: UInt8?) async throws {
        if let machine { try folder.write("other", Self.program(machine: machine)) }
        let error = await failure([Self.facts(["vhci 1", "vsock 1"])], helper: "\(folder.path)/other")
        #expect(error?.code == (machine == nil ? .notFound : .invalid))
        #expect(error?.message.contains(machine == nil ? "there is no vusb-attach" : "another processor") == true)
        #expect(error?.remedy?.contains("install usbip") == true)
    }

    @Test(
        "C4: what is no program isn't sent",
        arguments: [[], Array("#!/bin/sh".utf8), AttachTests.program(machine: 62, type: 1)])
    func noProgram(bytes: [UInt8]) async throws {
        try folder.write("other", bytes)
        let error = await failure([Self.facts(["vhci 1", "vsock 1"])], helper: "\(folder.path)/other")
        #expect(error?.message.contains("is no program of Linux") == true)
    }

    @Test("C5: the helper doesn't run there; it and the module are taken out again") func unfit() async {
        let error = await failure(
            [
                Self.facts(["vsock 1"]), (.loadVHCI, .exit(0)), (.makeDirectory, .directory(below: "/tmp")),
                (.write("/tmp/DIR/vusb-attach"), .done),
                (.makeProgram("/tmp/DIR/vusb-attach"), .exit(3, errors: "sh: Permission denied\n")), Self.vhciOut[0],
                (.removeDirectory("/tmp/DIR"), .exit(0)),
            ] + Self.vhciOut.dropFirst())
        #expect(error?.code == .accessDenied)
        #expect(error?.message == "copy vusb-attach: it doesn't run there: sh: Permission denied")
    }

    @Test(
        "C5: a guest that names another directory than it was asked for gets no file",
        arguments: [
            FakeGuest.Answer.exit(3), .exit(0, output: "/etc\n"), .directory(below: "/etc"),
        ])
    func noPlace(answer: FakeGuest.Answer) async {
        let error = await failure([Self.facts(["vhci 1", "vsock 1"]), (.makeDirectory, answer)])
        #expect(error?.code == .accessDenied)
    }

    @Test("C6: nothing answers") func nobody() async {
        let error = await failure(
            [
                Self.facts(["tool.vusb-attach /bin/vusb-attach", "vsock 1"]), (.loadVHCI, .exit(0)),
                Self.list("/bin/vusb-attach", ["-l", "vsock:2:3240"], 1),
            ] + Self.vhciOut)
        #expect(error?.message == "look for vusbd from inside: nothing answers at vsock:2:3240")
    }

    @Test("C9: a load that is cancelled is undone") func cancelled() async {
        let error = await failure(
            [
                Self.facts(["vsock 1"]), (.loadVHCI, .exit(0)), (.makeDirectory, .directory(below: "/run")),
                (.write("/run/DIR/vusb-attach"), .failure(USBError(.cancelled, "cancelled"))), Self.vhciOut[0],
                (.removeDirectory("/run/DIR"), .exit(0)),
            ] + Self.vhciOut.dropFirst())
        #expect(error?.code == .cancelled)
    }

    // MARK: - Attach

    private func attach(
        _ calls: [Call], _ way: AttachWay, limit: Duration = .seconds(60)
    ) async -> Result<AttachStream, USBError> {
        let guest = FakeGuest(calls)
        defer { #expect(guest.isDone) }
        do throws(USBError) {
            return .success(
                try await ModuleLoader(kernel: guest, store: ModuleStore(directories: [])) { _ in }
                    .attach("1-1", by: way, limit: limit))
        } catch {
            return .failure(error)
        }
    }

    @Test("A9: of ports the first that is free; C8: or none")
    func ports() async throws {
        let way = AttachWay(program: .helper("/v"), streams: [.serial(path: "/dev/a"), .serial(path: "/dev/b")])
        let busy: Call = (.program(["/v", "-d", "serial:/dev/a", "1-1"]), .exit(4, errors: "vusb-attach: busy\n"))
        #expect(
            try await attach([busy, (.program(["/v", "-d", "serial:/dev/b", "1-1"]), .exit(0))], way).get()
                == .serial(path: "/dev/b"))
        let result = await attach(
            [busy, (.program(["/v", "-d", "serial:/dev/b", "1-1"]), .exit(4, errors: "all are taken\n"))], way)
        guard case .failure(let error) = result else { return #expect(Bool(false)) }
        #expect(error.code == .busy)
        #expect(error.message == "all are taken")
    }

    @Test("A9: all ports have one limit")
    func portsWithoutTime() async throws {
        let way = AttachWay(program: .helper("/v"), streams: [.serial(path: "/dev/a"), .serial(path: "/dev/b")])
        let result = await attach(
            [(.program(["/v", "-d", "serial:/dev/a", "1-1"]), .exit(4, errors: "busy\n"))], way, limit: .zero)
        guard case .failure(let error) = result else { return #expect(Bool(false)) }
        #expect(error.code == .busy)
    }

    @Test("C7: a refusal isn't tried at another port")
    func refused() async throws {
        let way = AttachWay(program: .helper("/v"), streams: [.serial(path: "/dev/a"), .serial(path: "/dev/b")])
        let result = await attach(
            [(.program(["/v", "-d", "serial:/dev/a", "1-1"]), .exit(1, errors: "no\u{1b}[2J such device\n"))], way)
        guard case .failure(let error) = result else { return #expect(Bool(false)) }
        #expect(error.message == "no?[2J such device")
    }

    @Test("C7: usbip says in words that somebody has it")
    func usbipBusy() async throws {
        let way = AttachWay(program: .usbip("/u"), streams: [.tcp(host: "10.0.2.2", port: 99)])
        let call = FakeGuest.Call.program(["/u", "--tcp-port", "99", "attach", "-r", "10.0.2.2", "-b", "1-1"])
        #expect(try await attach([(call, .exit(0))], way).get() == way.streams[0])
        let result = await attach(
            [(call, .exit(1, errors: "usbip: error: Attach Request for 1-1 failed - Device busy (exported)\n"))], way)
        guard case .failure(let error) = result else { return #expect(Bool(false)) }
        #expect(error.code == .busy)
    }

    // MARK: - Unload

    private static let loaded = LoadedModules(
        bootID: FakeGuest.bootID, modules: ["usbip_core", "vhci_hcd"], helperDirectory: "/run/vusb-1")

    private func unload(_ calls: [Call], steps: Steps = Steps()) async throws(USBError) -> UnloadEnd {
        let guest = FakeGuest(calls)
        defer { #expect(guest.isDone) }
        return try await ModuleLoader(kernel: guest, store: ModuleStore(directories: [])) { _ in }
            .unload(Self.loaded) { steps.add($0) }
    }

    @Test("the helper goes, then the modules once our devices have left the ports")
    func everythingGoes() async throws {
        let steps = Steps()
        let end = try await unload(
            [
                Self.vhciOut[0], (.removeDirectory("/run/vusb-1"), .exit(0)),
                (.vhciPorts, .lines(["vusb-vhci-ports-1", "port 0000", "end 1"])),
            ] + Self.vhciOut.dropFirst(),
            steps: steps)
        guard case .out = end else { return #expect(Bool(false), "\(end)") }
        #expect(steps.all == ["unloading vhci_hcd", "unloading usbip_core"])
    }

    @Test("somebody else's device keeps the module, which is remembered")
    func othersStay() async throws {
        let taken: Call = (.vhciPorts, .lines(["vusb-vhci-ports-1", "port 0003", "end 1"]))
        let end = try await unload(
            [Self.vhciOut[0], (.removeDirectory("/run/vusb-1"), .exit(0))] + Array(repeating: taken, count: 15))
        guard case .left(let left, let error) = end else { return #expect(Bool(false), "\(end)") }
        #expect(left == LoadedModules(bootID: FakeGuest.bootID, modules: ["usbip_core", "vhci_hcd"]))
        #expect(error.code == .busy)
        #expect(error.message == "unload vhci_hcd: its ports 0003 have devices that aren't of this vusbd")
    }

    @Test("C13: after a reboot nothing is touched") func afterAReboot() async throws {
        let end = try await unload([(.facts(at: "/", brief: true), FakeGuest.brief(boot: "another"))])
        guard case .out = end else { return #expect(Bool(false), "\(end)") }
    }
}
