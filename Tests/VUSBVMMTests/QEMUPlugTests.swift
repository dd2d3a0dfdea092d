// SPDX-License-Identifier: Apache-2.0

import Logging
import Testing
import VUSBCore

@testable import VUSBVMM

/// Devices that are plugged into a machine and taken out again. Times that run out are short; all others are long.
@Suite struct QEMUPlugTests {
    private let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
    private let port = ControllerPort("1-1")
    private let high = PlugWish(speed: .high)

    private func limits(_ change: (inout QEMUPlug.Limits) -> Void = { _ in }) -> QEMUConnector.Limits {
        var limits = QEMUConnector.Limits()
        limits.backOff = QEMUMonitor.BackOff(first: .milliseconds(1), longest: .milliseconds(5))
        limits.monitor.greeting = .seconds(20)
        limits.plug = QEMUPlug.Limits(plug: .seconds(60), undo: .seconds(20), pause: .milliseconds(1))
        change(&limits.plug)
        return limits
    }

    /// A bound guest whose QEMU knows what `machine` does.
    private func withGuest(
        _ machine: FakeMachine, limits: QEMUConnector.Limits? = nil, status: String = "running",
        _ body: (QEMUConnector, FakePeer) async throws -> Void
    ) async throws {
        let server = try FakeServer()
        let connector = QEMUConnector(limits: limits ?? self.limits(), logger: logger)
        async let accepted = server.acceptMonitor(status: status)
        try await connector.bind("web1", GuestPlace(monitorSocket: server.path))
        let peer = try await accepted
        async let served: Void = machine.serve(peer)
        do {
            try await body(connector, peer)
        } catch {
            await connector.stop()
            throw error
        }
        await connector.stop()
        await served
    }

    private func plug(_ connector: QEMUConnector, _ wish: PlugWish? = nil) async throws -> PluggedPort {
        try await connector.hotplug("web1", port: port, wish: wish ?? high, socketPath: "/run/vusb/1-1")
    }

    private func plugError(_ connector: QEMUConnector, _ wish: PlugWish? = nil) async -> USBError? {
        await #expect(throws: USBError.self) { try await plug(connector, wish) }
    }

    private func unplugError(_ connector: QEMUConnector, within limit: Duration = .seconds(20)) async -> USBError? {
        await #expect(throws: USBError.self) { try await connector.hotunplug("web1", port: port, within: limit) }
    }

    private func machine() -> FakeMachine {
        let machine = FakeMachine()
        machine.addXHCI()
        return machine
    }

    /// With the device in it.
    private func pluggedMachine() -> FakeMachine {
        let machine = machine()
        machine.chardev("vusb-1-1")
        machine.device("vusb-1-1")
        return machine
    }

    // MARK: - Controllers

    @Test func controllersAreFoundWhereverTheyAre() async throws {
        let machine = machine()
        machine.object(
            "/machine", ("peripheral", "child<container>"), ("peripheral-anon", "child<container>"),
            ("unattached", "child<container>"), ("ram", "child<memory-region>"), ("soc", "child<some-soc>"))
        machine.object("/machine/peripheral/xhci/xhci.0", ("child[0]", "link<usb-tablet>"), ("x", "link<bus>"))
        machine.object(
            "/machine/peripheral-anon", ("device[0]", "child<ich9-usb-ehci1>"), ("device[1]", "child<ich9-usb-uhci1>"))
        machine.object("/machine/peripheral-anon/device[0]", ("usb-bus.0", "child<usb-bus>"))
        machine.object(
            "/machine/peripheral-anon/device[0]/usb-bus.0", ("child[3]", "link<usb-hub>"), ("child[4]", "link<usb-kbd>")
        )
        machine.object("/machine/peripheral-anon/device[1]", ("masterbus", "str"), ("firstport", "uint32"))
        machine.value("/machine/peripheral-anon/device[1]/masterbus", "usb-bus.0")
        machine.value("/machine/peripheral-anon/device[1]/firstport", 2)
        machine.object("/machine/unattached", ("device[7]", "child<piix3-usb-uhci>"))
        machine.object("/machine/unattached/device[7]", ("usb-bus.1", "child<usb-bus>"))
        machine.object("/machine/soc", ("ohci", "child<sysbus-ohci>"))
        machine.object("/machine/soc/ohci", ("usb-bus.2", "child<usb-bus>"))
        machine.value("/machine/soc/ohci/num-ports", 4)
        try await withGuest(machine) { connector, _ in
            let controllers = try await connector.controllers(of: "web1")
            #expect(
                controllers == [
                    GuestController(bus: "xhci.0", kind: .xhci, ports: 4, freePorts: 3),
                    // What is at the hub and what at the controller isn't known.
                    GuestController(bus: "usb-bus.0", kind: .ehci, ports: 6),
                    GuestController(bus: "usb-bus.2", kind: .ohci, ports: 4, freePorts: 4),
                    GuestController(bus: "usb-bus.1", kind: .uhci, ports: 2, freePorts: 2),
                ])
            machine.object("/machine/peripheral", ("type", "string"))
            machine.free("usb-bus.0", [3])
            let place = try await plug(connector, PlugWish(speed: .low))
            #expect(place == PluggedPort(bus: "usb-bus.0", port: 3))
        }
    }

    @Test func numbersAndTreesThatMakeNoSenseAreBounded() async throws {
        let machine = machine()
        machine.value("/machine/peripheral/xhci/p2", "four")
        machine.value("/machine/peripheral/xhci/p3", -1)
        var path = "/machine/peripheral/xhci"
        for _ in 0..<20 {
            machine.object(path, ("xhci.0", "child<usb-bus>"), ("x", "child<x>"), ("y", "child<>"))
            path += "/x"
        }
        try await withGuest(machine) { connector, _ in
            let controllers = try await connector.controllers(of: "web1")
            #expect(controllers == [GuestController(bus: "xhci.0", kind: .xhci)])
        }
        #expect(machine.count("qom-list") < 20)
        for name in ["/machine", "/machine/a", "/machine/a/a"] {
            machine.object(name, ("a", "child<container>"), ("b", "child<c>"), ("c", "child<c>"))
        }
        try await withGuest(machine, limits: limits { $0.objects = 3 }) { connector, _ in
            let before = machine.count("qom-list")
            let controllers = try await connector.controllers(of: "web1")
            #expect(controllers.isEmpty)
            #expect(machine.count("qom-list") == before + 3)
        }
    }

    @Test func listingControllersIsBoundedInTime() async throws {
        let machine = machine()
        machine.reply("qom-list", .silence)
        try await withGuest(machine, limits: limits { $0.plug = .milliseconds(1) }) { connector, _ in
            let error = await #expect(throws: USBError.self) { try await connector.controllers(of: "web1") }
            #expect(error?.code == .timedOut)
            #expect(error?.message.contains("web1") == true)
        }
    }

    // MARK: - In

    @Test(arguments: ["running", "paused"]) func theChardevComesBeforeItsDevice(status: String) async throws {
        let machine = machine()
        try await withGuest(machine, status: status) { connector, _ in
            let wish = PlugWish(speed: .super, wantsStreams: true)
            let place = try await plug(connector, wish)
            #expect(place == PluggedPort(bus: "xhci.0", port: 1))
        }
        let address: JSONValue = ["type": "unix", "data": ["path": "/run/vusb/1-1"]]
        #expect(machine.changeNames == ["chardev-add", "device_add"])
        #expect(
            machine.changes.map { $0["arguments"] } == [
                ["id": "vusb-1-1", "backend": ["type": "socket", "data": ["addr": address, "server": false]]],
                [
                    "driver": "usb-redir", "id": "vusb-1-1", "chardev": "vusb-1-1", "bus": "xhci.0", "port": "1",
                    "streams": true,
                ],
            ])
    }

    @Test func takenPortsAreLeftOutOrTried() async throws {
        let machine = machine()
        machine.object(
            "/machine/peripheral/xhci/xhci.0", ("child[0]", "link<usb-tablet>"), ("child[1]", "link<usb-kbd>"))
        machine.value("/machine/peripheral/xhci/xhci.0/child[0]", "/machine/peripheral/tablet")
        machine.value("/machine/peripheral/tablet/port", "1")
        machine.value("/machine/peripheral/xhci/xhci.0/child[1]", "/machine/peripheral/keyboard")
        machine.value("/machine/peripheral/keyboard/port", "")
        let free = FakeMachine.Reply.refusal("usb port 2 (bus xhci.0) not found (in use?)")
        machine.reply("device_add", free)
        try await withGuest(machine) { connector, _ in
            let place = try await plug(connector)
            #expect(place == PluggedPort(bus: "xhci.0", port: 3))
            let controllers = try await connector.controllers(of: "web1")
            #expect(controllers.first?.freePorts == 2)
        }
        #expect(machine.changes.compactMap { $0["arguments"]?["port"] } == ["2", "3"])
    }

    @Test func whereAllPortsAreTakenNothingStays() async throws {
        let machine = FakeMachine()
        machine.addXHCI(usb2: 2, usb3: 4, ports: [3, 4])
        try await withGuest(machine) { connector, _ in
            let error = await plugError(connector)
            #expect(error?.code == .busy)
            #expect(error?.message.contains("guest web1") == true)
            #expect(error?.message.contains("all 2 ports of bus xhci.0") == true)
            #expect(error?.remedy?.contains("p2=15,p3=15") == true)
        }
        #expect(machine.changeNames == ["chardev-add", "device_add", "device_add", "chardev-remove"])
        #expect(machine.chardevs.isEmpty)
    }

    @Test func aMachineWithoutAFittingControllerIsLeftAlone() async throws {
        let machine = machine()
        machine.object("/machine/peripheral", ("u", "child<piix3-usb-uhci>"))
        machine.object("/machine/peripheral/u", ("u.0", "child<usb-bus>"))
        try await withGuest(machine) { connector, _ in
            var error = await plugError(connector, PlugWish(speed: .super))
            #expect(error?.code == .unsupported)
            #expect(error?.message.contains("only uhci (u.0)") == true)
            #expect(error?.remedy == "add -device qemu-xhci,id=xhci to its command line")
            machine.object("/machine/peripheral", ("type", "string"))
            error = await plugError(connector)
            #expect(error?.code == .unsupported)
            #expect(error?.message == "guest web1 has no USB controller")
            #expect(error?.remedy == "add -device qemu-xhci,id=xhci to its command line")
        }
        #expect(machine.changes.isEmpty)
    }

    @Test func aQEMUWithoutUSBRedirIsToldAndItsChardevRemoved() async throws {
        let machine = machine()
        machine.reply("device_add", .refusal("'usb-redir' is not a valid device model name"))
        try await withGuest(machine) { connector, _ in
            let error = await plugError(connector)
            #expect(error?.code == .unsupported)
            #expect(error?.remedy?.contains("usbredir") == true)
        }
        #expect(machine.changeNames == ["chardev-add", "device_add", "chardev-remove"])
        #expect(machine.chardevs.isEmpty)
    }

    @Test func anyOtherRefusalIsToldAndTheChardevRemoved() async throws {
        let machine = machine()
        machine.reply("device_add", .refusal("Bus 'xhci.0' not found"))
        try await withGuest(machine) { connector, _ in
            let error = await plugError(connector)
            #expect(error?.code == .io)
            #expect(error?.message == "QEMU refuses to plug vusb-1-1 into guest web1: Bus 'xhci.0' not found")
        }
        #expect(machine.chardevs.isEmpty)
    }

    @Test func whatIsPluggedAlreadyStays() async throws {
        let machine = pluggedMachine()
        try await withGuest(machine) { connector, _ in #expect(await plugError(connector)?.code == .busy) }
        #expect(machine.changeNames == ["chardev-add"])
        // A device of that name, without a chardev of that name: somebody else's.
        let other = self.machine()
        other.device("vusb-1-1")
        other.reply("chardev-remove", .value([:]))
        try await withGuest(other) { connector, _ in #expect(await plugError(connector)?.code == .busy) }
        #expect(other.changeNames == ["chardev-add", "device_add", "chardev-remove"])
        #expect(other.devices == ["vusb-1-1"])
    }

    /// Texts of QEMU 7.2.
    @Test(arguments: [
        ("Failed to connect to '/run/vusb/1-1': No such file or directory", USBError.Code.notFound, true),
        ("Failed to connect to '/run/vusb/1-1': Permission denied", .accessDenied, true),
        ("Failed to connect to '/run/vusb/1-1': Connection refused", .io, true), ("Out of memory", .io, false),
    ]) func aSocketThatQEMUCannotReachIsNamed(text: String, code: USBError.Code, hasRemedy: Bool) async throws {
        let machine = machine()
        machine.reply("chardev-add", .refusal("Failed to add chardev 'vusb-1-1': " + text))
        try await withGuest(machine) { connector, _ in
            let error = await plugError(connector)
            #expect(error?.code == code)
            #expect(error?.message.contains(text) == true)
            #expect((error?.remedy != nil) == hasRemedy)
        }
        #expect(machine.changeNames == ["chardev-add"])
    }

    @Test func aDeviceThatIsNotPluggedInTimeIsTakenBack() async throws {
        let machine = machine()
        machine.reply("device_add", .silence)
        try await withGuest(machine, limits: limits { $0.plug = .seconds(1) }) { connector, _ in
            let error = await plugError(connector)
            #expect(error?.code == .timedOut)
            #expect(error?.message.contains("vusb-1-1 into guest web1") == true)
        }
        #expect(machine.chardevs.isEmpty && machine.devices.isEmpty)
    }

    @Test func aCancelledPlugLeavesNothing() async throws {
        let machine = machine()
        machine.reply("device_add", .silence)
        try await withGuest(machine) { connector, _ in
            let task = Task { try await plug(connector) }
            await machine.arrival(of: "device_add")
            task.cancel()
            let error = await #expect(throws: USBError.self) { try await task.value }
            #expect(error?.code == .cancelled)
            #expect(error?.message.contains("web1") == true)
        }
        #expect(machine.changeNames == ["chardev-add", "device_add", "device_del", "chardev-remove"])
        #expect(machine.chardevs.isEmpty && machine.devices.isEmpty)
    }

    @Test func aPlugThatIsCancelledBeforeItsDeviceTakesTheChardevBack() async throws {
        let machine = machine()
        machine.reply("chardev-add", .silence)
        try await withGuest(machine) { connector, _ in
            let task = Task { try await plug(connector) }
            await machine.arrival(of: "chardev-add")
            task.cancel()
            let error = await #expect(throws: USBError.self) { try await task.value }
            #expect(error?.code == .cancelled)
        }
        #expect(machine.changeNames == ["chardev-add", "chardev-remove"])
        #expect(machine.chardevs.isEmpty)
    }

    @Test func whatCannotBeTakenBackDoesNotHideTheError() async throws {
        let machine = machine()
        machine.reply("device_add", .refusal("no"))
        machine.reply("chardev-remove", .silence)
        try await withGuest(machine, limits: limits { $0.undo = .milliseconds(1) }) { connector, _ in
            #expect(await plugError(connector)?.message.hasSuffix("no") == true)
        }
    }

    @Test func aLostConnectionEndsAPlugAtOnce() async throws {
        let machine = machine()
        machine.reply("device_add", .end)
        try await withGuest(machine) { connector, _ in
            let error = await plugError(connector)
            #expect(error?.code == .gone)
            #expect(error?.message.contains("guest web1 was lost while vusb-1-1") == true)
        }
    }

    // MARK: - Out

    @Test(arguments: ["running", "paused"]) func aDeviceIsAwaitedAndTakesItsChardevAlong(status: String) async throws {
        let machine = pluggedMachine()
        try await withGuest(machine, status: status) { connector, _ in
            try await connector.hotunplug("web1", port: port, within: .seconds(20))
        }
        #expect(machine.changeNames == ["device_del", "chardev-remove"])
        #expect(machine.changes.map { $0["arguments"] } == [["id": "vusb-1-1"], ["id": "vusb-1-1"]])
        #expect(machine.chardevs.isEmpty && machine.devices.isEmpty)
    }

    @Test func anEventBeforeTheAnswerCountsAndAChardevThatStaysIsRemoved() async throws {
        let machine = pluggedMachine()
        machine.keepsChardevs()
        machine.reply("device_del", .early("vusb-1-1"))
        machine.reply("chardev-remove", .refusal("Chardev 'vusb-1-1' is busy"))
        try await withGuest(machine) { connector, _ in
            try await connector.hotunplug("web1", port: port, within: .seconds(20))
        }
        #expect(machine.changeNames == ["device_del", "chardev-remove", "chardev-remove"])
        #expect(machine.chardevs.isEmpty)
    }

    @Test func whatIsNotThereIsNoError() async throws {
        let machine = machine()
        try await withGuest(machine) { connector, _ in
            try await connector.hotunplug("web1", port: port, within: .seconds(20))
        }
        #expect(machine.changeNames == ["device_del", "chardev-remove"])
    }

    @Test func aDeviceThatIsLeavingAlreadyIsAwaited() async throws {
        let machine = pluggedMachine()
        machine.reply("device_del", .refusal("Device vusb-1-1 is already in the process of unplug"))
        machine.reply("chardev-remove", .value([:]))
        try await withGuest(machine) { connector, peer in
            async let unplugged: Void = connector.hotunplug("web1", port: port, within: .seconds(20))
            await machine.arrival(of: "device_del")
            await machine.deleted("vusb-1-1", peer)
            try await unplugged
        }
    }

    @Test func anotherDevicesEndIsNotThisOnes() async throws {
        let machine = pluggedMachine()
        machine.reply("device_del", .value([:]))
        try await withGuest(machine) { connector, peer in
            async let failure = unplugError(connector, within: .seconds(1))
            await machine.arrival(of: "device_del")
            await machine.deleted("vusb-1-11", peer)
            let error = await failure
            #expect(error?.code == .timedOut)
            #expect(error?.message.contains("guest web1 hasn't let go of device vusb-1-1 within 1.0 seconds") == true)
            #expect(error?.remedy?.contains("device_del vusb-1-1") == true)
        }
        #expect(machine.changeNames == ["device_del"])
    }

    @Test func aChardevThatStaysBusyIsATimeOut() async throws {
        let machine = machine()
        machine.reply("device_del", .refusal("Device 'vusb-1-1' not found", class: "DeviceNotFound"))
        machine.chardev("vusb-1-1")
        machine.device("vusb-1-1")
        try await withGuest(machine) { connector, _ in
            #expect(await unplugError(connector, within: .milliseconds(200))?.code == .timedOut)
        }
    }

    @Test(arguments: ["device_del", "chardev-remove"])
    func anyOtherRefusalToLetGoIsTold(command: String) async throws {
        let machine = pluggedMachine()
        machine.reply(command, .refusal("no"))
        try await withGuest(machine) { connector, _ in
            let error = await unplugError(connector)
            #expect(error?.code == .io)
            #expect(error?.message == "QEMU refuses to take vusb-1-1 from guest web1: no")
        }
    }

    @Test func aLostConnectionEndsTheWaitAtOnce() async throws {
        let machine = pluggedMachine()
        machine.reply("device_del", .value([:]))
        try await withGuest(machine) { connector, peer in
            async let failure = unplugError(connector, within: .seconds(1000))
            await machine.arrival(of: "device_del")
            peer.close()
            let error = await failure
            #expect(error?.code == .gone)
            #expect(error?.message.contains("guest web1 was lost while vusb-1-1 was taken from it") == true)
        }
    }

    @Test func aCancelledUnplugEndsAtOnce() async throws {
        let machine = pluggedMachine()
        machine.reply("device_del", .value([:]))
        try await withGuest(machine) { connector, _ in
            let task = Task { try await connector.hotunplug("web1", port: port, within: .seconds(1000)) }
            await machine.arrival(of: "device_del")
            task.cancel()
            let error = await #expect(throws: USBError.self) { try await task.value }
            #expect(error?.code == .cancelled)
        }
    }

    // MARK: - Leftovers

    @Test func allOfAnEarlierDaemonIsTakenAwayAndNothingElse() async throws {
        let machine = machine()
        for id in ["vusb-1-1", "vusb-2-1"] {
            machine.chardev(id)
            machine.device(id)
        }
        machine.chardev("vusb-half")
        machine.chardev("vusb-qmp", filename: "unix:/run/qmp,server=on")
        machine.chardev("serial0")
        machine.device("other")
        try await withGuest(machine) { connector, _ in
            let counts = [
                try await connector.unplugLeftovers(of: "web1"), try await connector.unplugLeftovers(of: "web1"),
            ]
            #expect(counts == [3, 0])
        }
        #expect(machine.chardevs == ["serial0", "vusb-qmp"])
        #expect(machine.devices == ["other"])
    }

    @Test func aChardevOfSomebodyElsesDeviceStays() async throws {
        let machine = machine()
        machine.chardev("vusb-mine")
        machine.reply("chardev-remove", .refusal("Chardev 'vusb-mine' is busy"))
        try await withGuest(machine) { connector, _ in
            let count = try await connector.unplugLeftovers(of: "web1")
            #expect(count == 0)
        }
    }

    @Test func aLeftoverThatStaysDoesNotKeepTheOthers() async throws {
        let machine = pluggedMachine()
        machine.chardev("vusb-2-1")
        machine.reply("device_del", .refusal("no"))
        try await withGuest(machine) { connector, _ in
            let error = await #expect(throws: USBError.self) { try await connector.unplugLeftovers(of: "web1") }
            #expect(error?.message.contains("vusb-1-1") == true)
        }
        #expect(machine.chardevs == ["vusb-1-1"])
    }

    // MARK: - No machine

    @Test func aGuestThatIsNotBoundOrIsOffIsTold() async throws {
        let connector = QEMUConnector(limits: limits(), logger: logger)
        #expect(connector.modes == [.redirect, .module, .files, .usbip])
        #expect(await plugError(connector)?.code == .notFound)
        let server = try FakeServer()
        server.stop()
        try await connector.bind("web1", GuestPlace(monitorSocket: server.path))
        let errors = [
            await plugError(connector), await unplugError(connector),
            await #expect(throws: USBError.self) { try await connector.controllers(of: "web1") },
            await #expect(throws: USBError.self) { try await connector.unplugLeftovers(of: "web1") },
        ]
        #expect(errors.map { $0?.code } == [.gone, .gone, .gone, .gone])
        #expect(errors.allSatisfy { $0?.message.hasPrefix("guest web1 is off") == true })
        await connector.stop()
    }
}
