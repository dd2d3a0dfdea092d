// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBControl
import VUSBCore
import VUSBTestSupport

@testable import VUSBDaemon
@testable import VUSBIP

/// Devices of other servers: what the control plane does with imports. The rows are those of States.md.
@Suite(.timeLimit(.minutes(1))) struct ImportTests {
    private static let id = DeviceID("ip-10.0.0.2-1-1")
    private static let request = ImportRequest(server: "10.0.0.2", busid: "1-1")
    private static let refused = USBError(.io, "nobody listens at 10.0.0.2:3240", remedy: "start the server")

    /// A bench on which that device is imported, and a guest that may have it.
    private static func imported(_ guest: GuestSpec = GuestSpec(name: "web1"), product: String = "0525:a4a0 S1")
        async throws -> Bench
    {
        let bench = try await Bench()
        _ = try await bench.plane.addGuest(guest)
        try await bench.load(guest.name)
        let operation = try await bench.plane.addImport(request)
        try bench.importer.connect(id, product)
        #expect(try await bench.finish(operation).state == .succeeded)
        return bench
    }

    private static func info(_ bench: Bench) async throws -> ImportInfo {
        try await bench.plane.importedDevice(id.rawValue)
    }

    /// I1
    @Test func anImportEndsWithItsFirstTryAndIsSaved() async throws {
        let bench = try await Bench()
        let operation = try await bench.plane.addImport(Self.request)
        #expect(operation.kind == "import")
        #expect(operation.device == "ip-10.0.0.2-1-1")
        #expect(try await Self.info(bench).state == .connecting)
        #expect(await bench.importer.waiting.wait(for: 1) == [Self.id])
        #expect(bench.store.state.imports == nil)
        try bench.importer.connect(Self.id, "0525:a4a0 S1")
        let info = try await bench.finish(operation)
        #expect(info.state == .succeeded)
        #expect(info.steps.map(\.name) == ["connecting to 10.0.0.2", "imported 1-1 of 10.0.0.2"])
        #expect(try await Self.info(bench).state == .imported)
        #expect(try await bench.plane.device("ip-10.0.0.2-1-1").source == "usbip")
        #expect(bench.store.state.imports == [ImportSpec(server: "10.0.0.2", busid: "1-1")])
        await bench.close()
    }

    /// I1: also where its device has to wait until who had it last has let go of it.
    @Test func aFirstTryEndsThoughItsDeviceHasToWait() async throws {
        let bench = try await Self.imported()
        bench.importer.devices.holdOpen(Self.id)
        let attach = try await bench.plane.attach(Self.id.rawValue, AttachRequest(guest: "web1"))
        _ = await bench.importer.devices.heldOpens.wait(for: 1)
        try bench.importer.lose(Self.id, reason: "the server has vanished")
        let lost = await bench.event("device-left")?.sequence ?? 0
        let forget = try await bench.finish(await bench.plane.forgetImport(Self.id.rawValue, ReleaseRequest()))
        #expect(forget.state == .succeeded)
        let operation = try await bench.plane.addImport(Self.request)
        bench.importer.succeed(Self.id)
        while await bench.plane.arrivalWaiters[Self.id] == nil { await Task.yield() }
        try bench.importer.arrive(Self.id, "0525:a4a0 S1")
        #expect(try await bench.finish(operation).state == .succeeded)
        let early = await bench.plane.eventRing.known.filter { $0.type == "device-arrived" && $0.sequence > lost }
        #expect(early.isEmpty)
        bench.importer.devices.letOpen(Self.id)
        #expect(try await bench.finish(attach).state == .failed)
        #expect(await bench.event("device-arrived", after: lost)?.device == Self.id.rawValue)
        await bench.close()
    }

    /// I2
    @Test func oneWhoseFirstTryFailsIsTakenBack() async throws {
        let bench = try await Bench()
        let operation = try await bench.plane.addImport(Self.request)
        bench.importer.fail(Self.id, with: Self.refused)
        let info = try await bench.finish(operation)
        #expect(info.state == .failed)
        #expect(info.error?.detail == "import of 1-1 of 10.0.0.2: nobody listens at 10.0.0.2:3240")
        #expect(info.error?.remedy == "start the server")
        #expect(await bench.plane.imports().isEmpty)
        #expect(bench.importer.imports().isEmpty)
        #expect(bench.store.state.imports == nil)
        #expect(await bench.event("import-removed")?.device == Self.id.rawValue)
        await bench.close()
    }

    /// I3
    @Test func oneThatIsKeptIsTriedOn() async throws {
        let bench = try await Bench()
        var request = Self.request
        request.keepTrying = true
        let operation = try await bench.plane.addImport(request)
        bench.importer.fail(Self.id, with: Self.refused)
        let ended = try await bench.finish(operation)
        #expect(ended.state == .succeeded)
        #expect(ended.steps.last?.name.hasPrefix("not there yet, tried again: import of 1-1") == true)
        let info = try await Self.info(bench)
        #expect(info.state == .waiting)
        #expect(info.reason == "nobody listens at 10.0.0.2:3240")
        #expect(info.attempts == 1)
        #expect(info.retrySeconds != nil)
        #expect(bench.store.state.imports?.count == 1)
        let finding = await bench.plane.doctor().first { $0.check == "import ip-10.0.0.2-1-1" }
        #expect(finding?.level == .warning)
        #expect(
            finding?.summary == "1-1 of 10.0.0.2 isn't there, tried once: nobody listens at 10.0.0.2:3240")
        #expect(finding?.remedy?.contains("vusbctl forget ip-10.0.0.2-1-1") == true)
        try bench.importer.connect(Self.id, "0525:a4a0")
        #expect(await bench.event("import-connected")?.detail == "1-1 of 10.0.0.2")
        #expect(await bench.plane.importFindings().isEmpty)
        await bench.close()
    }

    /// I3: what is kept in any case is saved before the first try has ended.
    @Test func oneThatIsKeptOutlivesAKillDuringItsFirstTry() async throws {
        let bench = try await Bench()
        var request = Self.request
        request.keepTrying = true
        _ = try await bench.plane.addImport(request)
        _ = await bench.importer.waiting.wait(for: 1)
        #expect(bench.store.state.imports?.count == 1)
        await bench.close()
        #expect(bench.store.state.imports?.count == 1)
    }

    /// I4
    @Test(arguments: [false, true]) func aCancelTakesItBack(keepTrying: Bool) async throws {
        let bench = try await Bench()
        var request = Self.request
        request.keepTrying = keepTrying
        let operation = try await bench.plane.addImport(request)
        _ = await bench.importer.waiting.wait(for: 1)
        _ = try await bench.plane.cancelOperation(operation.id)
        #expect(try await bench.finish(operation).state == .cancelled)
        #expect(await bench.plane.imports().isEmpty)
        #expect(bench.importer.imports().isEmpty)
        #expect(bench.store.state.imports == nil)
        await bench.close()
    }

    /// I5
    @Test func oneWhoseDescriptorsCannotBeBelievedIsTakenBack() async throws {
        let bench = try await Bench()
        let operation = try await bench.plane.addImport(Self.request)
        bench.importer.refuse(Self.id, reason: "byte 4 is wrong")
        let info = try await bench.finish(operation)
        #expect(info.error?.code == .conflict)
        #expect(info.error?.detail.contains("byte 4 is wrong") == true)
        #expect(await bench.plane.imports().isEmpty)
        #expect(await bench.plane.devices().isEmpty)
        await bench.close()
    }

    /// I5: also where the first try's end is known before the refusal is told.
    @Test func aRefusalThatComesLateLeavesNothing() async throws {
        let bench = try await Bench()
        let operation = try await bench.plane.addImport(Self.request)
        bench.importer.fail(Self.id, with: USBError(.invalid, "byte 4 is wrong"))
        #expect(try await bench.finish(operation).state == .failed)
        bench.importer.devices.refuse(Self.id, reason: "byte 4 is wrong")
        // The stream is in order: with this import's device the refusal has been heard of.
        let other = try await bench.plane.addImport(ImportRequest(server: "10.0.0.2", busid: "1-2"))
        try bench.importer.connect(DeviceID("ip-10.0.0.2-1-2"), "0525:a4a1")
        #expect(try await bench.finish(other).state == .succeeded)
        #expect(await bench.plane.devices().map(\.id) == ["ip-10.0.0.2-1-2"])
        await bench.close()
    }

    @Test func theSameDeviceIsNotImportedTwice() async throws {
        let bench = try await Self.imported()
        let twice = await problem { _ = try await bench.plane.addImport(Self.request) }
        #expect(twice?.code == .conflict)
        #expect(twice?.detail == "import of 1-1 of 10.0.0.2: it's imported already")
        #expect(twice?.remedy == "see `vusbctl imports`")
        let wrong = await problem {
            _ = try await bench.plane.addImport(ImportRequest(server: "a b", busid: "1-1"))
        }
        #expect(wrong?.code == .malformed)
        await bench.close()
    }

    // MARK: - Its device

    /// I6
    @Test func aDeviceThatIsLostAndComesBackIsAtItsGuestAgain() async throws {
        let bench = try await Self.imported()
        #expect(try await bench.attach(Self.id.rawValue).path == "1-1")
        try bench.read("1-1")
        let before = await bench.lastSequence
        let since = try await Self.info(bench).since
        try bench.importer.lose(Self.id, reason: "the server has vanished")
        let lost = await bench.event("import-lost", after: before)
        #expect(lost?.detail == "1-1 of 10.0.0.2: the server has vanished")
        #expect(await bench.event("detached", after: before)?.path == "1-1")
        #expect(await bench.handler.wait(for: 1).map(\.status) == [.noDevice])
        #expect(try await Self.info(bench).state == .waiting)
        #expect(try await Self.info(bench).since >= since)
        try bench.importer.connect(Self.id, "0525:a4a0 S1")
        #expect(await bench.event("attached", after: before)?.path == "1-1")
        #expect(try await bench.plane.guest("web1").attachments.map(\.device) == [Self.id.rawValue])
        await bench.close()
    }

    @Test func oneThatIsAwaySaysSoByItsName() async throws {
        let bench = try await Self.imported()
        try bench.importer.lose(Self.id, reason: "the server has vanished")
        _ = await bench.event("import-lost")
        let asked = AttachRequest(guest: "web1")
        let problems = [
            await problem { _ = try await bench.plane.attach(Self.id.rawValue, asked) },
            await problem { _ = try await bench.plane.explainClaims(on: Self.id.rawValue) },
            await problem { _ = try await bench.plane.device(Self.id.rawValue) },
        ]
        for problem in problems {
            #expect(problem?.code == .notFound)
            #expect(
                problem?.detail == "device ip-10.0.0.2-1-1, imported as 1-1 of 10.0.0.2, isn't here now: "
                    + "the server has vanished")
            #expect(problem?.remedy?.contains("vusbctl import 10.0.0.2.") == true)
        }
        let other = await problem { _ = try await bench.plane.attach("ip-other", asked) }
        #expect(other?.detail == "no device 'ip-other'")
        await bench.close()
    }

    @Test func oneThatIsTriedAgainKeepsTheReason() async throws {
        let bench = try await Self.imported()
        try bench.importer.lose(Self.id, reason: "the server has vanished")
        _ = await bench.event("import-lost")
        bench.importer.tryAgain(Self.id)
        let info = try await Self.info(bench)
        #expect(info.state == .connecting)
        #expect(info.reason == "the server has vanished")
        #expect(await bench.plane.importFindings().map(\.check) == ["import ip-10.0.0.2-1-1"])
        let asked = AttachRequest(guest: "web1")
        let problem = await problem { _ = try await bench.plane.attach(Self.id.rawValue, asked) }
        #expect(problem?.detail.hasSuffix("isn't here now: the server has vanished; a try is under way") == true)
        try bench.importer.connect(Self.id, "0525:a4a0 S1")
        _ = await bench.event("import-connected") { _ in true }
        #expect(try await Self.info(bench).reason == nil)
        await bench.close()
    }

    @Test func claimsListsAndRequestsTakeItsIdAsAnyOther() async throws {
        let bench = try await Self.imported(GuestSpec(name: "web1", devices: ["ip-10.0.0.2-1-1"]))
        #expect(await bench.event("attached")?.device == Self.id.rawValue)
        _ = try await bench.plane.addGuest(GuestSpec(name: "web2"))
        try await bench.load("web2")
        for term in ["port=ip-10.0.0.2-1-1", "source=usbip"] {
            let name = term.hasPrefix("port") ? "place" : "source"
            _ = try await bench.plane.addClaim(ClaimSpec(name: name, match: [term], guests: ["web2"]))
            #expect(try await bench.plane.claim("place").devices == [Self.id.rawValue])
        }
        #expect(try await bench.plane.explainClaims(on: Self.id.rawValue).claims.map(\.fits) == [true, true])
        _ = try await bench.plane.hold(Self.id.rawValue, HoldRequest())
        try await bench.plane.endHold(Self.id.rawValue)
        let request = SwitchRequest(guest: "web2", deadlineSeconds: 5)
        #expect(try await bench.finish(await bench.plane.switchDevice("0525:a4a0:S1", request)).state == .succeeded)
        #expect(try await bench.plane.guest("web2").attachments.map(\.device) == [Self.id.rawValue])
        #expect(bench.tree.hosts[Self.id] == RecordingTree.Host(state: "attached", guest: "web2"))
        await bench.close()
    }

    // MARK: - Forget

    /// I7
    @Test func oneThatNobodyHasIsForgottenAtOnce() async throws {
        let bench = try await Self.imported()
        let info = try await bench.finish(await bench.plane.forgetImport(Self.id.rawValue, ReleaseRequest()))
        #expect(info.kind == "forget")
        #expect(info.state == .succeeded)
        #expect(await bench.plane.devices().isEmpty)
        #expect(await bench.plane.imports().isEmpty)
        #expect(bench.store.state.imports == nil)
        let lost = await bench.plane.eventRing.known.filter { $0.type == "import-lost" }
        #expect(lost.isEmpty)
        let again = await problem {
            _ = try await bench.plane.forgetImport(Self.id.rawValue, ReleaseRequest())
        }
        #expect(again?.code == .notFound)
        await bench.close()
    }

    /// I7
    @Test func oneThatWaitsIsForgottenToo() async throws {
        let bench = try await Self.imported()
        try bench.importer.lose(Self.id, reason: "the server has vanished")
        _ = await bench.event("import-lost")
        let info = try await bench.finish(await bench.plane.forgetImport(Self.id.rawValue, ReleaseRequest()))
        #expect(info.state == .succeeded)
        #expect(bench.importer.imports().isEmpty)
        await bench.close()
    }

    /// I8
    @Test func whatAGuestWorksWithIsNotForgottenUnasked() async throws {
        let bench = try await Self.imported()
        try await bench.attach(Self.id.rawValue)
        try bench.read("1-1")
        let refuse = ReleaseRequest(deadlineSeconds: 0)
        let refused = try await bench.finish(await bench.plane.forgetImport(Self.id.rawValue, refuse))
        #expect(refused.error?.code == .busy)
        #expect(try await bench.state(Self.id.rawValue) == .attached)
        #expect(try await Self.info(bench).state == .imported)
        #expect(bench.store.state.imports?.count == 1)
        let cancel = ReleaseRequest(deadlineSeconds: 0, onDeadline: .cancel)
        let forgotten = try await bench.finish(await bench.plane.forgetImport(Self.id.rawValue, cancel))
        #expect(forgotten.state == .succeeded)
        #expect(try await bench.plane.guest("web1").attachments.isEmpty)
        #expect(bench.store.state.loaded.first?.held == [])
        await bench.close()
    }

    /// I9
    @Test func oneThatIsBeginningIsCancelledAndNotForgotten() async throws {
        let bench = try await Bench()
        let operation = try await bench.plane.addImport(Self.request)
        let early = await problem { _ = try await bench.plane.forgetImport(Self.id.rawValue, ReleaseRequest()) }
        #expect(early?.code == .conflict)
        #expect(early?.remedy == "cancel that: vusbctl cancel \(operation.id)")
        try bench.importer.connect(Self.id, "0525:a4a0")
        #expect(try await bench.finish(operation).state == .succeeded)
        await bench.close()
    }

    // MARK: - Restart and configuration

    /// I10
    @Test func aRestartImportsAgainAndTheGuestHasItsDevice() async throws {
        let first = try await Self.imported()
        try await first.attach(Self.id.rawValue)
        let second = try await Bench(store: first.store)
        await second.plane.restore(first.store.state, configured: [])
        #expect(try await Self.info(second).state == .connecting)
        #expect(try await second.state(of: "web1") == .loaded)
        try second.importer.connect(Self.id, "0525:a4a0 S1")
        #expect(await second.event("attached")?.path == "1-1")
        let missing = await second.plane.eventRing.known.filter { $0.type == "device-missing" }
        #expect(missing.isEmpty)
        await second.close()
        await first.close()
    }

    /// I11
    @Test func thoseOfTheConfigurationStayAndAreNotSaved() async throws {
        let bench = try await Bench()
        let specification = ImportSpec(server: "10.0.0.2:3240", busid: "1-1", name: "scanner")
        await bench.plane.restore(SavedState(), configured: [], imports: [specification])
        let info = try await bench.plane.importedDevice("ip-scanner")
        #expect(info.declaredBy == "configuration")
        #expect(info.server == "10.0.0.2:3240")
        let refused = await problem { _ = try await bench.plane.forgetImport("ip-scanner", ReleaseRequest()) }
        #expect(refused?.code == .conflict)
        #expect(refused?.remedy == "remove it from vusb.yaml and restart vusbd")
        _ = try await bench.plane.addGuest(GuestSpec(name: "web1"))
        #expect(bench.store.state.guests.count == 1)
        #expect(bench.store.state.imports == nil)
        await bench.close()
    }

    @Test func importsAreReadFromTheConfiguration() throws {
        let configuration = try ConfigurationFile.parse(
            """
            imports:
              - {server: 10.0.0.2, busid: 1-1}
              - server: "[fe80::1%eth0]:3241"
                busid: 2-1.4
                name: lab.scanner
            """, path: "vusb.yaml")
        #expect(
            configuration.imports == [
                ImportSpec(server: "10.0.0.2", busid: "1-1"),
                ImportSpec(server: "[fe80::1%eth0]:3241", busid: "2-1.4", name: "lab.scanner"),
            ])
        let text = """
            imports:
              - {server: 10.0.0.2}
              - {server: "10.0.0.2:0", busid: 1-1}
              - {server: a, busid: "1/1"}
              - {server: a, busid: 1-1, name: -}
              - {server: a, busid: 1-1, nmae: b}
              - {server: b, busid: 1-1, name: c}
              - {server: b, busid: 1-1}
              - {server: b, busid: 1-2, name: c}
            """
        #expect {
            _ = try ConfigurationFile.parse(text, path: "vusb.yaml")
        } throws: { error in
            let faults = (error as? ConfigurationError)?.faults ?? []
            return faults.map { "\($0.line ?? 0) \($0.key ?? "")" } == [
                "2 imports[0].busid", "3 imports[1].server", "4 imports[2].busid", "5 imports[3].name",
                "6 imports[4].busid", "6 imports[4].nmae", "8 imports[6].busid", "9 imports[7].name",
            ] && faults.allSatisfy { $0.remedy != nil }
        }
    }

    // MARK: - Servers

    @Test func oneThatAnotherHasIsListedWithThat() async throws {
        let bench = try await Self.imported()
        try bench.importer.lose(Self.id, reason: "another has it")
        _ = await bench.event("import-lost")
        let offer = USBIPOffer(busID: "1-1", vendorID: 0x0525, productID: 0xa4a0, speed: .high, deviceClass: 0xff)
        bench.importer.offer(.success(USBIPOfferList(offers: [offer])))
        let info = try #require(try await bench.plane.offers(of: "10.0.0.2").first)
        #expect(info.imported == Self.id.rawValue && info.importState == .waiting)
        #expect(info.reason == "another has it")
        #expect(info.kind == "vendor's own")
        await bench.close()
    }

    @Test func namesAreThoseOfTheList() {
        let text = """
            # a comment
            0951  Kingston Technology
            \t1666  DataTraveler 100 G3
            \t\t00  an interface
            0525  Netchip Technology, Inc.
            \ta4a1  Linux-USB CDC
            C 03  Human Interface Device
            \t1666  not a product
            """
        let keys = [(0x0951, 0x1666), (0x0525, 0xa4a0), (0x1234, 0x1666)].map {
            USBNames.Key(vendor: $0.0, product: $0.1)
        }
        let names = USBNames(keys, in: text)
        #expect(
            keys.map { names[$0] } == [
                "Kingston Technology DataTraveler 100 G3", "Netchip Technology, Inc.", nil,
            ])
    }

    @Test func whatAServerLendsIsListedWithWhatIsImportedAlready() async throws {
        let bench = try await Self.imported()
        bench.importer.offer(
            .success(
                USBIPOfferList(
                    offers: [
                        USBIPOffer(
                            busID: "1-1", vendorID: 0x0525, productID: 0xa4a0, speed: .high, deviceClass: 0,
                            interfaces: [USBIPInterfaceClass(0xff, 0, 0), USBIPInterfaceClass(3, 1, 1)]),
                        USBIPOffer(busID: "1-2", vendorID: 0x0951, productID: 0x1666, speed: .super, deviceClass: 8),
                    ],
                    leftOut: [USBIPOfferList.LeftOut(busID: "1-3", reason: "it says speed 99, which can't be")])))
        let offers = try await bench.plane.offers(of: "10.0.0.2:3240")
        #expect(offers.map(\.busid) == ["1-1", "1-2", "1-3"])
        #expect(offers.map(\.imported) == [Self.id.rawValue, nil, nil])
        #expect(offers.map(\.importState) == [.imported, nil, nil])
        #expect(offers.map(\.idProduct) == ["a4a0", "1666", "0000"])
        #expect(offers.map(\.kind) == ["keyboard", "mass storage", nil])
        #expect(offers.map(\.interfaces) == [["ff/00/00", "03/01/01"], [], []])
        #expect(offers.map(\.fault) == [nil, nil, "it says speed 99, which can't be"])
        #expect(bench.importer.asked == [.tcp(host: "10.0.0.2", port: 3240)])
        bench.importer.offer(.failure(USBError(.timedOut, "it doesn't answer")))
        let silent = await problem { _ = try await bench.plane.offers(of: "10.0.0.2") }
        #expect(silent?.code == .timedOut)
        bench.importer.offer(.failure(USBError(.invalid, "it answers what nobody has asked")))
        let wrong = await problem { _ = try await bench.plane.offers(of: "10.0.0.2") }
        #expect(wrong?.code == .failed)
        await bench.close()
    }

    /// What the control interface and vusb.yaml let in, the importer takes.
    @Test(arguments: [
        "host", "host:1", "10.0.0.2:65535", "[::1]", "[fe80::1%eth0]:3241", "unix:/run/x y", "vsock:2", "vsock:2:1024",
        "a_b-c.d",
    ])
    func serversOfTheInterfaceAreThoseOfTheImporter(text: String) {
        #expect(Rules.isServer(text))
        #expect(USBIPServer(text) != nil)
    }

    /// Neither target imports the other: what both have is the same.
    @Test func theInterfaceLetsAsManyImportsInAsTheImporterTakes() {
        #expect(Rules.mostImports == USBIPSource.maximumImports)
    }

    @Test(arguments: [
        ("", false, false), ("1", true, true), ("1-2.3", true, true), ("a_b", true, true), ("Z9", true, true),
        ("a:b", true, false), (":", true, false), ("a", true, true), ("-a", true, false), (".", true, false),
        ("_1", true, false), ("1/2", false, false), ("1 2", false, false), ("1\n", false, false),
        ("1\0", false, false), ("\u{e9}", false, false), ("\u{661}", false, false), ("@", false, false),
        ("[", false, false), ("`", false, false), ("{", false, false),
        (String(repeating: "1", count: 31), true, true), (String(repeating: "1", count: 32), false, true),
        (String(repeating: "1", count: 60), false, true), (String(repeating: "1", count: 61), false, false),
        (String(repeating: "\u{e9}", count: 16), false, false),
    ])
    func busIDsAndNamesOfTheInterfaceAreThoseOfTheImporter(text: String, isBusID: Bool, isName: Bool) throws {
        let server = try #require(USBIPServer("host"))
        #expect(Rules.isBusID(text) == isBusID)
        #expect((USBIPRemote(server: server, busID: text) != nil) == isBusID)
        let remote = try #require(USBIPRemote(server: server, busID: "1-1"))
        #expect(Rules.isImportName(text) == isName)
        #expect((try? remote.id(name: text)) == (isName ? DeviceID("ip-\(text)") : nil))
    }

    @Test(arguments: ["", "unix:80", "unix:x", "vsock:", "a:0", "a:", "[::1", "a b", "-a"])
    func whatTheImporterRefusesTheInterfaceRefusesToo(text: String) {
        #expect(!Rules.isServer(text))
        #expect(USBIPServer(text) == nil)
    }
}
