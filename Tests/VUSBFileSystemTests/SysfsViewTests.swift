// SPDX-License-Identifier: Apache-2.0

import CFuse3
import Glibc
import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBFileSystem

/// SysfsView.md: layout and rows V1 to V8.
@Suite("A guest's sysfs")
struct SysfsViewTests {
    private let devices = "guests/web1/sys/bus/usb/devices"
    private let device = "guests/web1/sys/bus/usb/vusb/usb1/1-1"

    private func target(_ rig: TreeRig, _ path: String) -> String? {
        rig.node(path).flatMap { rig.tree.linkTarget(of: $0) }
    }

    /// Follows a link of sysfs from the directory that it's in.
    private func follow(_ rig: TreeRig, _ path: String) -> NodeID? {
        guard let target = target(rig, path) else { return nil }
        var names = path.split(separator: "/").dropLast()
        for name in target.split(separator: "/") {
            if name == ".." { _ = names.popLast() } else { names.append(name) }
        }
        return rig.node(names.joined(separator: "/"))
    }

    private func control(_ rig: TreeRig, _ device: VirtualDevice, _ bytes: [UInt8]) throws {
        let parsed = SetupPacket(bytes.span)
        device.submit(TestURB.control(try #require(parsed), pool: device.pool, handler: RecordingHandler()))
        #expect(device.inFlight == 0 && device.pool.outstanding == 0)
    }

    @Test("V1: a loaded guest without devices has the root hub of bus 1")
    func empty() throws {
        let rig = try TreeRig()
        #expect(rig.node("guests/web1/sys") == nil)
        rig.tree.setGuestPublished("web1", true)
        #expect(rig.names("guests/web1/sys") == ["bus", "dev"])
        #expect(rig.names("guests/web1/sys/bus/usb") == ["devices", "drivers", "vusb"])
        #expect(rig.names("guests/web1/sys/bus/usb/drivers") == ["hub", "usb", "vusb"])
        #expect(rig.names(devices) == ["usb1", "1-0:1.0"])
        #expect(rig.names("guests/web1/sys/bus/usb/vusb") == ["uevent", "driver", "subsystem", "usb1"])
    }

    @Test("V2: an attached device is below its root hub, and linked to")
    func attached() throws {
        let rig = try TreeRig()
        rig.attach()
        #expect(rig.names(devices) == ["usb1", "1-0:1.0", "1-1", "1-1:1.0"])
        #expect(follow(rig, devices + "/1-1") == rig.node(device))
        #expect(follow(rig, devices + "/1-1:1.0") == rig.node(device + "/1-1:1.0"))
        #expect(follow(rig, devices + "/usb1") == rig.node("guests/web1/sys/bus/usb/vusb/usb1"))
        #expect(rig.names(device + "/1-1:1.0")?.isSuperset(of: ["ep_81", "ep_02", "modalias", "uevent"]) == true)
        #expect(rig.names(device)?.isSuperset(of: ["ep_00", "1-1:1.0", "descriptors", "subsystem"]) == true)
    }

    @Test("every link but those out of the view leads to a directory of it")
    func links() throws {
        let rig = try TreeRig()
        rig.attach()
        rig.attach(path: "2-3", bus: 2, device: 4)
        var rest = ["guests/web1/sys"]
        var seen = 0
        while let path = rest.popLast() {
            for name in rig.names(path) ?? [] {
                let child = path + "/" + name
                rest.append(child)
                guard let target = target(rig, child), !target.hasSuffix("bus/platform") else { continue }
                let end = try #require(follow(rig, child), "\(child) -> \(target)")
                #expect(rig.tree.list(end) != nil, "\(child) -> \(target)")
                seen += 1
            }
        }
        #expect(seen > 20)
    }

    @Test("what can be looked up among the links is what is listed")
    func lookups() throws {
        let rig = try TreeRig()
        rig.attach()
        rig.attach(path: "2-3", bus: 2, device: 4)
        let directory = try #require(rig.node(devices))
        let entries = try #require(rig.tree.list(directory))
        #expect(entries.count == 8)
        for entry in entries { #expect(rig.tree.lookup(entry.name, in: directory) == entry.inode, "\(entry.name)") }
        let absent = [
            "", ":", "usb", "usb0", "usb3", "usb01", "usb300", "usb4294967297", "usb-1", "1-0", "3-0:1.0", "1-0:1.1",
            "1-1:", "1-1:1", "1-1:1.1", "1-1:2.0", "1-2", "2-1", "-0", "1-1:1.0:1.0", "usb1:1.0",
        ]
        for name in absent { #expect(rig.tree.lookup(name, in: directory) == nil, "\(name)") }
    }

    @Test("attributes of a device read as those of the kernel")
    func deviceFiles() throws {
        let rig = try TreeRig()
        rig.attach()
        let expected = [
            "busnum": "1\n", "devnum": "2\n", "devpath": "1\n", "speed": "480\n", "version": " 2.00\n",
            "maxchild": "0\n", "bConfigurationValue": "1\n", "bNumInterfaces": " 1\n", "bmAttributes": "80\n",
            "bMaxPower": "100mA\n", "configuration": "", "authorized": "1\n", "quirks": "0x0\n", "urbnum": "0\n",
            "removable": "removable\n", "ltm_capable": "no\n", "product": "Gadget Zero\n", "serial": "0123\n",
            "idVendor": "0525\n", "idProduct": "a4a0\n", "dev": "512:1\n",
            "uevent": """
            MAJOR=512
            MINOR=1
            DEVNAME=bus/usb/001/002
            DEVTYPE=usb_device
            DRIVER=usb
            PRODUCT=525/a4a0/100
            TYPE=0/0/0
            BUSNUM=001
            DEVNUM=002

            """,
        ]
        for (name, wanted) in expected { #expect(rig.text(device + "/" + name) == wanted, "\(name)") }
        #expect(rig.node(device + "/manufacturer") == nil)
        #expect(rig.node(device + "/descriptors").flatMap { rig.tree.content(of: $0) } == SampleDevice.zeroBytes)
        #expect(target(rig, device + "/subsystem") == "../../../../../bus/usb")
    }

    @Test("attributes of an interface and its endpoints read as those of the kernel")
    func interfaceFiles() throws {
        let rig = try TreeRig()
        rig.attach()
        let expected = [
            "bInterfaceNumber": "00\n", "bAlternateSetting": " 0\n", "bNumEndpoints": "02\n",
            "bInterfaceClass": "ff\n", "bInterfaceSubClass": "00\n", "bInterfaceProtocol": "00\n",
            "modalias": "usb:v0525pA4A0d0100dc00dsc00dp00icFFisc00ip00in00\n",
            "uevent": """
            DEVTYPE=usb_interface
            PRODUCT=525/a4a0/100
            TYPE=0/0/0
            INTERFACE=255/0/0
            MODALIAS=usb:v0525pA4A0d0100dc00dsc00dp00icFFisc00ip00in00

            """,
            "ep_81/bEndpointAddress": "81\n", "ep_81/type": "Bulk\n", "ep_81/direction": "in\n",
            "ep_81/wMaxPacketSize": "0200\n", "ep_81/interval": "0ms\n", "ep_81/bLength": "07\n",
            "ep_02/direction": "out\n", "ep_02/uevent": "",
        ]
        for (name, wanted) in expected { #expect(rig.text(device + "/1-1:1.0/" + name) == wanted, "\(name)") }
        #expect(rig.text(device + "/ep_00/type") == "Control\n")
        #expect(rig.text(device + "/ep_00/direction") == "both\n")
        #expect(rig.text(device + "/ep_00/wMaxPacketSize") == "0040\n")
        #expect(rig.node(device + "/1-1:1.0/driver") == nil)
    }

    @Test("a root hub's descriptors are those that it is shown with, and its files those of a hub")
    func rootHub() throws {
        #expect(try Descriptors(parsing: RootHub.bytes) == RootHub.descriptors)
        let rig = try TreeRig()
        rig.attach()
        let hub = "guests/web1/sys/bus/usb/vusb/usb1"
        let expected = [
            "idVendor": "1d6b\n", "idProduct": "0002\n", "devnum": "1\n", "devpath": "0\n", "maxchild": "126\n",
            "serial": "web1\n", "removable": "unknown\n", "authorized_default": "1\n", "bDeviceClass": "09\n",
            "1-0:1.0/bInterfaceClass": "09\n",
            "1-0:1.0/ep_81/interval": "256ms\n", "1-0:1.0/ep_81/wMaxPacketSize": "0010\n",
        ]
        for (name, wanted) in expected { #expect(rig.text(hub + "/" + name) == wanted, "\(name)") }
        #expect(rig.node(hub + "/dev") == nil)
        #expect(rig.text(hub + "/uevent")?.contains("MAJOR") == false)
        #expect(target(rig, hub + "/1-0:1.0/driver")?.hasSuffix("drivers/hub") == true)
    }

    @Test("V3, V4: what goes takes its names along, what stays keeps its numbers, what comes back has new inodes")
    func comingAndGoing() throws {
        let rig = try TreeRig()
        rig.attach()
        rig.attach(path: "2-3", bus: 2, device: 4)
        let old = try #require(rig.node(device))
        #expect(rig.names(devices) == ["usb1", "1-0:1.0", "1-1", "1-1:1.0", "usb2", "2-0:1.0", "2-3", "2-3:1.0"])
        rig.tree.detach(path: "1-1", from: "web1")
        #expect(rig.names(devices) == ["usb1", "1-0:1.0", "usb2", "2-0:1.0", "2-3", "2-3:1.0"])
        #expect(rig.text("guests/web1/sys/bus/usb/vusb/usb2/2-3/devnum") == "4\n")
        #expect(rig.tree.content(of: old.sibling(.sysfsDeviceFile, parameter: 0)) == nil)
        rig.attach()
        #expect(rig.node(device) != nil && rig.node(device) != old)
        let hub = try #require(rig.node("guests/web1/sys/bus/usb/vusb/usb2"))
        rig.tree.detach(path: "2-3", from: "web1")
        #expect(rig.names(devices) == ["usb1", "1-0:1.0", "1-1", "1-1:1.0"])
        #expect(rig.tree.attributes(of: hub) == nil && rig.tree.list(hub) == nil)
    }

    @Test("V5: interfaces follow the configuration")
    func configuration() throws {
        let descriptors = try Descriptors(
            parsing: DescriptorBytes.device(configurations: 2)
                + DescriptorBytes.configuration([
                    DescriptorBytes.interface(0, endpoints: 1), DescriptorBytes.endpoint(0x81),
                ])
                + DescriptorBytes.configuration(
                    [
                        DescriptorBytes.interface(1, endpoints: 0), DescriptorBytes.interface(4, endpoints: 1),
                        DescriptorBytes.endpoint(0x82),
                    ], value: 2)
        )
        let rig = try TreeRig(descriptors: descriptors)
        let virtual = rig.attach()
        let first = try #require(rig.node(device + "/1-1:1.0"))
        try control(rig, virtual, [0x00, 0x09, 2, 0, 0, 0, 0, 0])
        #expect(rig.names(devices) == ["usb1", "1-0:1.0", "1-1", "1-1:2.1", "1-1:2.4"])
        #expect(rig.text(device + "/1-1:2.4/bInterfaceNumber") == "04\n")
        #expect(rig.text(device + "/bConfigurationValue") == "2\n")
        #expect(rig.names(device + "/1-1:2.4")?.contains("ep_82") == true)
        #expect(rig.tree.attributes(of: first) == nil)
        try control(rig, virtual, [0x00, 0x09, 0, 0, 0, 0, 0, 0])
        #expect(rig.names(devices) == ["usb1", "1-0:1.0", "1-1"])
        #expect(rig.text(device + "/bConfigurationValue") == "")
        #expect(rig.text(device + "/bNumInterfaces") == "")
    }

    @Test("V6: an interface's files follow the alternate setting")
    func alternateSetting() throws {
        let rig = try TreeRig()
        let virtual = rig.attach()
        #expect(rig.node(device + "/1-1:1.0/ep_85") == nil)
        try control(rig, virtual, [0x01, 0x0b, 2, 0, 0, 0, 0, 0])
        #expect(rig.text(device + "/1-1:1.0/bAlternateSetting") == " 2\n")
        #expect(rig.text(device + "/1-1:1.0/bNumEndpoints") == "04\n")
        #expect(rig.text(device + "/1-1:1.0/ep_85/type") == "Interrupt\n")
        #expect(rig.text(device + "/1-1:1.0/ep_85/interval") == "1ms\n")
        #expect(rig.text(device + "/urbnum") == "1\n")
        try control(rig, virtual, [0x01, 0x0b, 1, 0, 0, 0, 0, 0])
        #expect(rig.text(device + "/1-1:1.0/ep_83/type") == "Isoc\n")
        #expect(rig.text(device + "/1-1:1.0/ep_83/interval") == "125us\n")
        #expect(rig.node(device + "/1-1:1.0/ep_85") == nil)
    }

    @Test("V8: unloading hides all of it, also from who knows the inode")
    func unload() throws {
        let rig = try TreeRig()
        rig.attach()
        let nodes = [device, device + "/uevent", device + "/1-1:1.0/modalias", devices + "/1-1"].map { rig.node($0) }
        rig.tree.setGuestPublished("web1", false)
        for node in nodes {
            let node = try #require(node)
            #expect(rig.tree.attributes(of: node) == nil && rig.tree.content(of: node) == nil)
            #expect(rig.tree.linkTarget(of: node) == nil && rig.tree.list(node) == nil)
        }
    }

    @Test("files are the guest's to read; text has a page's size, descriptors their own, a link its target's")
    func permissions() throws {
        let rig = try TreeRig()
        rig.attach()
        func attributes(_ path: String) throws -> stat {
            let node = try #require(rig.node(path))
            return try #require(rig.tree.attributes(of: node))
        }
        let text = try attributes(device + "/speed")
        #expect(text.st_mode == S_IFREG | 0o440 && text.st_size == 4096)
        #expect(text.st_uid == 1000 && text.st_gid == 1001)
        #expect(try attributes(device + "/descriptors").st_size == SampleDevice.zeroBytes.count)
        #expect(try attributes(device).st_mode == S_IFDIR | 0o550)
        let link = try attributes(devices + "/1-1")
        #expect(link.st_mode == S_IFLNK | 0o777 && link.st_size == "../../../bus/usb/vusb/usb1/1-1".utf8.count)
    }

    @Test("one guest's device isn't in another's view, also not by inode")
    func otherGuest() throws {
        let rig = try TreeRig()
        rig.attach()
        rig.tree.addGuest("web2", access: GuestAccess())
        rig.tree.setGuestPublished("web2", true)
        #expect(rig.names("guests/web2/sys/bus/usb/devices") == ["usb1", "1-0:1.0"])
        let mine = try #require(rig.node(device))
        let other = try #require(rig.node("guests/web2"))
        #expect(rig.tree.attributes(of: NodeID(.sysfsDevice, owner: other.owner, device: mine.device)) == nil)
    }
}
