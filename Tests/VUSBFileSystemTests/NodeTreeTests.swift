// SPDX-License-Identifier: Apache-2.0

import CFuse3
import Glibc
import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBFileSystem

@Suite("The tree")
struct NodeTreeTests {
    @Test("an unloaded guest has only state and events")
    func unloaded() throws {
        let rig = try TreeRig()
        #expect(rig.names("guests") == ["web1"])
        #expect(rig.names("guests/web1") == ["state", "events"])
        #expect(rig.text("guests/web1/state") == "unloaded\n")
        #expect(rig.node("guests/web1/devices") == nil)
        #expect(rig.node("guests/web2") == nil)
    }

    @Test("a loaded guest shows its device as a directory, as a node of usbfs and in sys")
    func published() throws {
        let rig = try TreeRig()
        rig.attach()
        #expect(rig.names("guests/web1") == ["state", "events", "clock", "dev", "devices", "sys"])
        #expect(rig.names("guests/web1/devices") == ["1-1"])
        #expect(rig.names("guests/web1/dev/bus/usb") == ["001"])
        #expect(rig.names("guests/web1/dev/bus/usb/001") == ["002"])
        #expect(rig.names("guests/web1/devices/1-1/ep") == ["00", "81", "02"])
        #expect(rig.names("guests/web1/devices/1-1")?.contains("manufacturer") == false)
        #expect(rig.text("guests/web1/devices/1-1/dev") == "512:1\n")
    }

    @Test("a device on the second bus has the numbers of usbfs there")
    func secondBus() throws {
        let rig = try TreeRig()
        rig.attach(path: "2-5", bus: 2, device: 5)
        #expect(rig.names("guests/web1/dev/bus/usb") == ["002"])
        let node = try #require(rig.node("guests/web1/dev/bus/usb/002/005"))
        let attributes = try #require(rig.tree.attributes(of: node))
        #expect(attributes.st_mode == S_IFCHR | 0o640)
        // 512 << 8 | 132, as glibc's makedev has small numbers.
        #expect(attributes.st_rdev == 512 << 8 | 132)
    }

    @Test("unpublishing hides the devices again, with their files")
    func unpublished() throws {
        let rig = try TreeRig()
        rig.attach()
        let endpoint = try #require(rig.node("guests/web1/devices/1-1/ep/81"))
        rig.tree.setGuestPublished("web1", false)
        #expect(rig.names("guests/web1") == ["state", "events"])
        #expect(rig.tree.attributes(of: endpoint) == nil)
        #expect(rig.tree.attachment(of: endpoint) == nil)
    }

    @Test("a device that is attached anew has new inode numbers: an old one names nothing")
    func serialsAreNotReused() throws {
        let rig = try TreeRig()
        rig.attach()
        let old = try #require(rig.node("guests/web1/devices/1-1"))
        rig.tree.detach(path: "1-1", from: "web1")
        #expect(rig.node("guests/web1/devices/1-1") == nil)
        rig.attach()
        let new = try #require(rig.node("guests/web1/devices/1-1"))
        #expect(new != old)
        #expect(rig.tree.attributes(of: old) == nil)
        #expect(rig.tree.attributes(of: new) != nil)
    }

    @Test("a guest that is removed and declared anew has a new directory; readers of its old events are at the end")
    func guestAnew() throws {
        let rig = try TreeRig()
        let old = try #require(rig.node("guests/web1"))
        let log = try #require(rig.tree.eventLog(of: old))
        rig.tree.removeGuest("web1")
        guard case .ended = log.line(at: 0) else {
            Issue.record("the log goes on")
            return
        }
        rig.tree.addGuest("web1", access: GuestAccess())
        #expect(rig.node("guests/web1") != old)
        #expect(rig.tree.attributes(of: old) == nil)
    }

    @Test("files belong to the guest's owner; IN endpoints can't be written, OUT endpoints not be read")
    func permissions() throws {
        let rig = try TreeRig()
        rig.attach()
        func mode(_ path: String) -> mode_t? {
            rig.node("guests/web1" + path).flatMap { rig.tree.attributes(of: $0) }?.st_mode
        }
        #expect(mode("") == S_IFDIR | 0o550)
        #expect(mode("/state") == S_IFREG | 0o440)
        #expect(mode("/devices/1-1/idVendor") == S_IFREG | 0o440)
        #expect(mode("/devices/1-1/ep/00") == S_IFREG | 0o640)
        #expect(mode("/devices/1-1/ep/81") == S_IFREG | 0o440)
        #expect(mode("/devices/1-1/ep/02") == S_IFREG | 0o200)
        let endpoint = try #require(rig.node("guests/web1/devices/1-1/ep/81"))
        let attributes = try #require(rig.tree.attributes(of: endpoint))
        #expect(attributes.st_uid == 1000 && attributes.st_gid == 1001)
        #expect(attributes.st_size == 524_288)
    }

    @Test("the host's view is root's alone")
    func hostView() throws {
        let rig = try TreeRig()
        let directory = try #require(rig.node("devices").flatMap { rig.tree.attributes(of: $0) })
        #expect(directory.st_mode == S_IFDIR | 0o500 && directory.st_uid == 0)
        #expect(rig.text("devices/emu-zero/state") == "available\n")
        #expect(rig.node("devices/emu-zero/guest") == nil)
        rig.tree.setHostDevice(HostDeviceEntry(record: rig.record, state: "attached", guest: "web1"))
        #expect(rig.text("devices/emu-zero/guest") == "web1\n")
        rig.tree.removeHostDevice(rig.record.id)
        #expect(rig.names("devices") == [])
    }

    @Test("a changed access applies to a guest that is there")
    func changedAccess() throws {
        let rig = try TreeRig()
        rig.attach()
        let before = rig.node("guests/web1")
        rig.tree.addGuest("web1", access: GuestAccess(uid: 5, gid: 6, fileMode: 0o666))
        #expect(rig.node("guests/web1") == before)
        let attributes = try #require(before.flatMap { rig.tree.attributes(of: $0) })
        #expect(attributes.st_uid == 5 && attributes.st_gid == 6 && attributes.st_mode == S_IFDIR | 0o555)
    }

    @Test("endpoint files follow the alternate setting in force")
    func alternateSetting() async throws {
        let rig = try TreeRig()
        let device = rig.attach()
        let handler = RecordingHandler()
        // SET_INTERFACE: interface 0, alternate setting 1.
        let bytes: [UInt8] = [0x01, 0x0b, 1, 0, 0, 0, 0, 0]
        let parsed = SetupPacket(bytes.span)
        let setup = try #require(parsed)
        device.submit(TestURB.control(setup, pool: device.pool, handler: handler))
        #expect(rig.names("guests/web1/devices/1-1/ep") == ["00", "81", "02", "83", "04"])
        #expect(device.inFlight == 0 && device.pool.outstanding == 0)
    }

    @Test("open endpoint files are counted by attachment")
    func openHandles() throws {
        let rig = try TreeRig()
        rig.attach()
        let node = try #require(rig.node("guests/web1/devices/1-1/ep/81"))
        let attachment = try #require(rig.tree.attachment(of: node))
        let file = InEndpointFile(
            id: FileHandleID(rawValue: 1),
            attachment: attachment,
            address: EndpointAddress(rawValue: 0x81)
        )
        #expect(rig.tree.openHandles(path: "1-1", of: "web1") == 1)
        file.closed()
        #expect(rig.tree.openHandles(path: "1-1", of: "web1") == 0)
        #expect(rig.tree.openHandles(path: "1-1", of: "nobody") == 0)
    }

    @Test("changes to a guest that isn't there change nothing")
    func unknownGuest() throws {
        let rig = try TreeRig()
        rig.attach(to: "nobody")
        rig.tree.setGuestState("nobody", "loaded")
        rig.tree.appendEvent(to: "nobody", line: "{}")
        rig.tree.detach(path: "1-1", from: "nobody")
        rig.tree.removeGuest("nobody")
        #expect(rig.names("guests") == ["web1"])
    }
}

extension NodeTree {
    /// `struct stat` can't be named in every file.
    func isChannel(_ node: NodeID, uid: UInt32, gid: UInt32, permissions: UInt32, size: Int) -> Bool {
        guard let attributes = attributes(of: node) else { return false }
        return attributes.st_uid == uid && attributes.st_gid == gid && attributes.st_mode & 0o777 == permissions
            && attributes.st_size == size
    }
}
