// SPDX-License-Identifier: Apache-2.0

import CFuse3
import Glibc
import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBFileSystem

/// Rows M1 to M4 of SysfsView.md: which numbers nodes carry.
@Suite("Numbers of character nodes")
struct CharacterNodeTests {
    private struct Numbers: Equatable {
        var node: String?
        var attribute: String?
        var view: String?
        var uevent: String?
    }

    /// All places in which the device's numbers can be seen.
    private func numbers(_ rig: TreeRig) -> Numbers {
        let guest = "guests/web1"
        let node = rig.node(guest + "/dev/bus/usb/001/002").flatMap { rig.tree.deviceNumber(of: $0) }
        let lines = rig.text(guest + "/sys/bus/usb/vusb/usb1/1-1/uevent")?.split(separator: "\n") ?? []
        func value(_ key: String) -> Substring? {
            lines.first { $0.hasPrefix(key + "=") }.map { $0.dropFirst(key.count + 1) }
        }
        let uevent = value("MAJOR").flatMap { major in value("MINOR").map { "\(major):\($0)\n" } }
        return Numbers(
            node: node.map { $0 + "\n" },
            attribute: rig.text(guest + "/devices/1-1/dev"),
            view: rig.text(guest + "/sys/bus/usb/vusb/usb1/1-1/dev"),
            uevent: uevent
        )
    }

    private func all(_ text: String?) -> Numbers { Numbers(node: text, attribute: text, view: text, uevent: text) }

    @Test("M1: without numbers of its own a node on a nodev mount has usbfs's")
    func pointers() throws {
        let rig = try TreeRig()
        rig.attach()
        #expect(numbers(rig) == all("512:1\n"))
    }

    @Test("M2, M3: numbers of a served node are everywhere", arguments: CharacterNodes.allCases)
    func served(nodes: CharacterNodes) throws {
        let rig = try TreeRig(characterNodes: nodes)
        rig.attach(node: CharacterDeviceNumber(major: 240, minor: 3))
        #expect(numbers(rig) == all("240:3\n"))
        #expect(rig.names("guests/web1/sys/dev/char") == ["240:3"])
        let node = try #require(rig.node("guests/web1/dev/bus/usb/001/002"))
        #expect(rig.tree.isNode(node, uid: 1000, gid: 1001, permissions: 0o640))
    }

    @Test("M4: on a mount with dev there is no node until numbers are known, and none once they are taken back (V7)")
    func noNumbers() throws {
        let rig = try TreeRig(characterNodes: .served)
        rig.attach()
        #expect(numbers(rig) == all(nil))
        #expect(rig.names("guests/web1/dev/bus/usb/001") == [])
        #expect(rig.names("guests/web1/sys/dev/char") == [])
        #expect(
            rig.text("guests/web1/sys/bus/usb/vusb/usb1/1-1/uevent")?.contains("DEVNAME=bus/usb/001/002\n") == true)
        #expect(rig.tree.setNode(CharacterDeviceNumber(major: 511, minor: 9), path: "1-1", of: "web1"))
        #expect(numbers(rig) == all("511:9\n"))
        #expect(rig.tree.setNode(nil, path: "1-1", of: "web1"))
        #expect(numbers(rig) == all(nil))
        #expect(!rig.tree.setNode(nil, path: "1-2", of: "web1"))
    }

    @Test("no number of usbfs's, or of any other device with a reserved major, can be made")
    func reserved() {
        for major in -1...600 where !(234...254).contains(major) && !(384...511).contains(major) {
            #expect(CharacterDeviceNumber(major: major, minor: 0) == nil, "\(major)")
        }
        #expect(CharacterDeviceNumber(major: 189, minor: 1) == nil)
        #expect(CharacterDeviceNumber(major: 240, minor: 1 << 20) == nil)
        #expect(CharacterDeviceNumber(major: 240, minor: -1) == nil)
        #expect(CharacterDeviceNumber(major: 240, minor: 1 << 20 - 1)?.description == "240:1048575")
    }

    @Test("a number that CUSE doesn't serve counts as none, at attach and later", arguments: CharacterNodes.allCases)
    func notServed(nodes: CharacterNodes) throws {
        let rig = try TreeRig(characterNodes: nodes) { $0.minor == 1 }
        let before = nodes == .pointers ? all("512:1\n") : all(nil)
        rig.attach(node: CharacterDeviceNumber(major: 254, minor: 2))
        #expect(numbers(rig) == before)
        #expect(!rig.tree.setNode(CharacterDeviceNumber(major: 245, minor: 0), path: "1-1", of: "web1"))
        #expect(numbers(rig) == before)
        #expect(rig.tree.setNode(CharacterDeviceNumber(major: 245, minor: 1), path: "1-1", of: "web1"))
        #expect(numbers(rig) == all("245:1\n"))
    }

    @Test("the host's own devices with dynamic numbers, as far as this one has any, aren't taken for CUSE's")
    func hostDevices() {
        for major in 234...254 {
            for minor in 0..<8 {
                guard let number = CharacterDeviceNumber(major: major, minor: minor) else { continue }
                var target = [CChar](repeating: 0, count: 4096)
                let count = unsafe readlink("/sys/dev/char/\(number)", &target, target.count)
                let text = String(decoding: target.prefix(max(0, count)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
                #expect(CharacterNodes.isServedByCUSE(number) == text.contains("virtual/cuse"), "\(number) \(text)")
            }
        }
    }

    /// The proof: whatever the attachments, no node has numbers but those that it was given and those that no device has,
    /// and these only where the mount lets nobody follow them.
    @Test("the host's own numbers are in no tree", arguments: CharacterNodes.allCases)
    func neverTheHosts(nodes: CharacterNodes) throws {
        let followed = SessionHandle.mountOptions(nodes).split(separator: ",").contains("dev")
        #expect(followed == !SessionHandle.mountOptions(nodes).split(separator: ",").contains("nodev"))
        let rig = try TreeRig(characterNodes: nodes)
        for bus in 1...3 {
            for port in 1...4 {
                let node = port % 2 == 0 ? CharacterDeviceNumber(major: 250, minor: bus * 16 + port) : nil
                rig.attach(path: "\(bus)-\(port)", bus: bus, device: port + 1, node: node)
            }
        }
        var majors: [UInt32: Int] = [:]
        var rest = [NodeID.root]
        while let directory = rest.popLast() {
            for entry in rig.tree.list(directory) ?? [] {
                if let major = rig.tree.major(of: entry.inode) { majors[major, default: 0] += 1 }
                rest.append(entry.inode)
            }
        }
        #expect(majors == (followed ? [250: 6] : [250: 6, 512: 6]))
    }
}

extension NodeTree {
    /// Of a character node: nil for any other.
    fileprivate func major(of node: NodeID) -> UInt32? {
        attributes(of: node).flatMap { $0.st_mode & S_IFMT == S_IFCHR ? UInt32($0.st_rdev >> 8) & 0xfff : nil }
    }

    fileprivate func deviceNumber(of node: NodeID) -> String? {
        guard let major = major(of: node), let attributes = attributes(of: node) else { return nil }
        return "\(major):\(attributes.st_rdev & 0xff)"
    }

    fileprivate func isNode(_ node: NodeID, uid: UInt32, gid: UInt32, permissions: UInt32) -> Bool {
        guard let attributes = attributes(of: node) else { return false }
        return attributes.st_uid == uid && attributes.st_gid == gid && attributes.st_mode == S_IFCHR | permissions
    }
}
