// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBFileSystem

/// Rows U1 to U5 of SysfsView.md.
@Suite("What is said of arrivals and removals")
struct SysfsUeventTests {
    private func summary(_ events: [Uevent]) -> [String] {
        events.map { "\($0.action.rawValue) \($0.devicePath) \($0.deviceType ?? "-")" }
    }

    @Test("U1, U3: the device and its interfaces")
    func device() throws {
        let rig = try TreeRig()
        rig.attach()
        let path = "/bus/usb/vusb/usb1/1-1"
        #expect(
            summary(rig.tree.arrival(path: "1-1", of: "web1")) == [
                "add \(path) usb_device", "add \(path)/1-1:1.0 usb_interface", "bind \(path) usb_device",
            ])
        #expect(
            summary(rig.tree.departure(path: "1-1", of: "web1")) == [
                "remove \(path)/1-1:1.0 usb_interface", "unbind \(path) usb_device", "remove \(path) usb_device",
            ])
    }

    @Test("U2, U4: a bus's root hub comes before its first device and goes after its last")
    func rootHub() throws {
        let rig = try TreeRig()
        rig.attach(path: "2-1", bus: 2)
        let hub = "/bus/usb/vusb/usb2"
        let hubArrival = [
            "add \(hub) usb_device", "add \(hub)/2-0:1.0 usb_interface", "bind \(hub)/2-0:1.0 usb_interface",
            "bind \(hub) usb_device",
        ]
        let hubDeparture = [
            "unbind \(hub)/2-0:1.0 usb_interface", "remove \(hub)/2-0:1.0 usb_interface", "unbind \(hub) usb_device",
            "remove \(hub) usb_device",
        ]
        #expect(Array(summary(rig.tree.arrival(path: "2-1", of: "web1")).prefix(4)) == hubArrival)
        #expect(Array(summary(rig.tree.departure(path: "2-1", of: "web1")).suffix(4)) == hubDeparture)
        rig.attach(path: "2-2", bus: 2, device: 3)
        #expect(rig.tree.arrival(path: "2-2", of: "web1").count == 3)
        #expect(rig.tree.departure(path: "2-1", of: "web1").count == 3)
    }

    @Test("U5: nothing where there is no such device, or nobody may see it")
    func nobody() throws {
        let rig = try TreeRig()
        rig.attach()
        #expect(rig.tree.arrival(path: "1-2", of: "web1") == [])
        #expect(rig.tree.departure(path: "1-1", of: "web2") == [])
        rig.tree.setGuestPublished("web1", false)
        #expect(rig.tree.arrival(path: "1-1", of: "web1") == [])
    }

    @Test("properties are the lines of the file uevent, with a driver only where one is bound")
    func properties() throws {
        let rig = try TreeRig(characterNodes: .served)
        rig.attach(path: "2-1", bus: 2, node: CharacterDeviceNumber(major: 240, minor: 7))
        for event in rig.tree.arrival(path: "2-1", of: "web1") {
            let lines = event.properties.map { "\($0.key)=\($0.value)\n" }.joined()
            let file = try #require(rig.text("guests/web1/sys" + event.devicePath + "/uevent"))
            let unbound = file.split(separator: "\n", omittingEmptySubsequences: false)
                .filter { !$0.hasPrefix("DRIVER=") }.joined(separator: "\n")
            #expect(lines == (event.action == .bind ? file : unbound), "\(event)")
        }
        let device = try #require(rig.tree.arrival(path: "2-1", of: "web1").last)
        #expect(device.properties.first == Uevent.Property("MAJOR", "240"))
    }
}
