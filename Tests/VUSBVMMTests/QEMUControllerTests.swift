// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore

@testable import VUSBVMM

/// The choice of a controller, and what is read of it.
@Suite struct QEMUControllerTests {
    private static let xhci = QEMUController(bus: "xhci.0", kind: .xhci, ports: QEMUController.xhciPorts(2, 4))
    private static let noSuper = QEMUController(bus: "old.0", kind: .xhci, ports: QEMUController.xhciPorts(4, 0))
    private static let ehci = QEMUController(
        bus: "ehci.0", kind: .ehci, ports: QEMUController.Ports(highSpeed: [1, 2, 3, 4, 5, 6]))
    private static let companions = QEMUController(
        bus: "ich.0", kind: .ehci, ports: QEMUController.Ports(highSpeed: [1, 2, 3, 4, 5, 6], slow: [3, 4]))
    private static let uhci = QEMUController(bus: "uhci.0", kind: .uhci, ports: QEMUController.Ports(slow: [1, 2]))
    private static let ohci = QEMUController(bus: "ohci.0", kind: .ohci, ports: QEMUController.Ports(slow: [1, 2, 3]))

    /// In no order.
    private static let all = [ohci, companions, uhci, ehci, noSuper, xhci]

    @Test(arguments: [
        (DeviceSpeed.superPlus, false, ["xhci.0"]), (.super, true, ["xhci.0"]), (.high, true, ["old.0", "xhci.0"]),
        (.high, false, ["old.0", "xhci.0", "ehci.0", "ich.0"]),
        (.full, false, ["old.0", "xhci.0", "ich.0", "uhci.0", "ohci.0"]),
        (.low, false, ["old.0", "xhci.0", "ich.0", "uhci.0", "ohci.0"]),
    ]) func theBestControllerComesFirst(speed: DeviceSpeed, wantsStreams: Bool, buses: [String]) {
        let wish = PlugWish(speed: speed, wantsStreams: wantsStreams)
        #expect(QEMUController.candidates(Self.all, for: wish).map(\.bus) == buses)
    }

    @Test func aDeviceOnlyFitsThePortsOfItsSpeed() {
        #expect(Self.xhci.possiblePorts(at: .high) == [1, 2])
        #expect(Self.xhci.possiblePorts(at: .super) == [1, 2, 3, 4])
        #expect(Self.companions.possiblePorts(at: .low) == [3, 4])
        var taken = Self.companions
        taken.taken = [3]
        #expect(taken.possiblePorts(at: .full) == [4])
        #expect(Self.xhci.asGuestController == GuestController(bus: "xhci.0", kind: .xhci, ports: 4))
    }

    @Test(arguments: [
        ("qemu-xhci", GuestController.Kind.xhci), ("nec-usb-xhci", .xhci), ("sysbus-xhci", .xhci), ("usb-ehci", .ehci),
        ("ich9-usb-ehci1", .ehci), ("exynos4210-ehci-usb", .ehci), ("ich9-usb-uhci6", .uhci), ("piix3-usb-uhci", .uhci),
        ("pci-ohci", .ohci), ("sysbus-ohci", .ohci), ("ich9-ahci", nil), ("usb-hub", nil), ("", nil),
    ]) func theTypeSaysTheKind(type: String, kind: GuestController.Kind?) {
        #expect(QEMUController.kind(ofType: type) == kind)
    }

    @Test func numbersThatMakeNoSenseAreBounded() {
        #expect(QEMUController.range(.max, default: 1) == Array(1...15))
        #expect(QEMUController.range(.min, default: 1) == [])
        #expect(QEMUController.range(2, default: 1, after: .max) == [])
        #expect(QEMUController.range(2, default: 1, after: .min) == [1, 2])
        #expect(QEMUController.range(nil, default: 2, after: 4) == [5, 6])
    }

    @Test func entriesThatMakeNoSenseAreLeftOut() {
        let answer: JSONValue = [
            1, .null, ["name": "a"], ["name": 1, "type": "string"], ["name": "", "type": "string"],
            ["name": "a/b", "type": "child<x>"], ["name": "xhci.0", "type": "child<usb-bus>"],
            ["name": "child[0]", "type": "link<usb-tablet>"], ["name": "b", "type": "child<"],
        ]
        let list = QOMProperty.list(answer)
        #expect(list.map(\.name) == ["xhci.0", "child[0]", "b"])
        #expect(list.map(\.child) == ["usb-bus", nil, nil])
        #expect(list.map(\.link) == [nil, "usb-tablet", nil])
        #expect(QOMProperty.list(["x": 1]).isEmpty)
    }

    @Test func onlyWhatConnectsIsALeftover() {
        let chardevs: JSONValue = [
            ["label": "vusb-1-1", "filename": "unix:"], ["label": "vusb-1-2", "filename": "disconnected:unix:/run/x"],
            ["label": "vusb-qmp", "filename": "unix:/run/qmp,server=on"], ["label": "other", "filename": "unix:"],
            ["label": "vusb-2"], ["filename": "unix:"], 7,
        ]
        #expect(QEMUPlug.chardevs(in: chardevs) == ["vusb-1-1", "vusb-1-2", "vusb-2"])
        #expect(QEMUPlug.chardevs(in: "nonsense").isEmpty)
        let objects = [
            QOMProperty(name: "vusb-1-1", type: "child<usb-redir>"),
            QOMProperty(name: "vusb-disk", type: "child<nvme>"),
            QOMProperty(name: "redir", type: "child<usb-redir>"),
            QOMProperty(name: "vusb-x", type: "link<usb-redir>"),
        ]
        #expect(QEMUPlug.devices(in: objects) == ["vusb-1-1"])
    }
}

@Suite struct DeviceDeletionTests {
    @Test func whatCameBeforeAnybodyWaitedIsKept() async throws {
        let deletion = DeviceDeletion(of: "vusb-1-1")
        deletion.settle(nil)
        deletion.settle(USBError(.gone, "too late"))
        try await deletion.wait(within: .seconds(20))
    }

    @Test func aCancelledTaskDoesNotWait() async {
        let deletion = DeviceDeletion(of: "vusb-1-1")
        let task = Task { try await deletion.wait(within: .seconds(1000)) }
        task.cancel()
        let error = await #expect(throws: USBError.self) { try await task.value }
        #expect(error?.code == .cancelled)
    }

    @Test func theTimeIsBounded() async {
        let error = await #expect(throws: USBError.self) {
            try await DeviceDeletion(of: "vusb-1-1").wait(within: .milliseconds(1))
        }
        #expect(error?.code == .timedOut)
    }

    @Test func onlyAnEventWithAnIDIsOfADevice() {
        #expect(DeviceDeletion.device(in: QMPEvent(name: "DEVICE_DELETED", data: ["device": "a"])) == "a")
        #expect(DeviceDeletion.device(in: QMPEvent(name: "DEVICE_DELETED", data: ["device": 1])) == nil)
        #expect(DeviceDeletion.device(in: QMPEvent(name: "DEVICE_DELETED", data: .null)) == nil)
        #expect(DeviceDeletion.device(in: QMPEvent(name: "RESET", data: ["device": "a"])) == nil)
    }
}
