// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import VUSBFileSystem

/// Lines are of /proc/self/mountinfo, as proc(5) has them.
@Suite("Mount points")
struct MountStateTests {
    private static let root = "25 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw"

    private func line(_ point: String, _ type: String) -> String {
        "90 25 0:50 / \(point) rw,nosuid,nodev shared:40 master:1 - \(type) vusb rw,user_id=0"
    }

    @Test("a path that nothing is mounted at has no type")
    func none() {
        #expect(MountState.type(of: "/vusb", mountInfo: Self.root) == nil)
        #expect(MountState.of("/vusb", mountInfo: Self.root) == .none)
        #expect(MountState.type(of: "/vusb", mountInfo: "") == nil)
    }

    @Test("the type stands behind the optional fields, however many there are")
    func optionalFields() {
        #expect(MountState.type(of: "/vusb", mountInfo: Self.root + "\n" + line("/vusb", "fuse.vusb")) == "fuse.vusb")
        #expect(MountState.type(of: "/", mountInfo: Self.root) == "ext4")
        let bare = "90 25 0:50 / /vusb rw - tmpfs none rw"
        #expect(MountState.type(of: "/vusb", mountInfo: bare) == "tmpfs")
    }

    @Test("of mounts that are stacked, the last one counts")
    func stacked() {
        let info = [line("/vusb", "tmpfs"), line("/vusb", "fuse.vusb")].joined(separator: "\n")
        #expect(MountState.type(of: "/vusb", mountInfo: info) == "fuse.vusb")
    }

    @Test("blanks, tabs, newlines and backslashes come in octal")
    func octal() {
        let info = line(#"/a\040b\011c\012d\134e"#, "fuse.vusb")
        #expect(MountState.type(of: "/a b\tc\nd\\e", mountInfo: info) == "fuse.vusb")
    }

    @Test("what only looks like octal stays as it is", arguments: [#"/a\04"#, #"/a\"#, #"/a\999"#, #"/a\777"#])
    func notOctal(point: String) {
        #expect(MountState.type(of: point, mountInfo: line(point, "tmpfs")) == "tmpfs")
    }

    @Test("neither a longer path nor a shorter one is the same")
    func prefixes() {
        let info = line("/vusb/guests", "tmpfs")
        #expect(MountState.type(of: "/vusb", mountInfo: info) == nil)
        #expect(MountState.type(of: "/vusb/guests/web1", mountInfo: info) == nil)
    }

    @Test("a file system that isn't FUSE is alive without being asked")
    func notFUSE() {
        let info = line("/nowhere", "tmpfs")
        #expect(MountState.of("/nowhere", mountInfo: info) == .alive(type: "tmpfs"))
    }

    @Test(
        "lines that are cut short are passed over",
        arguments: ["", "90 25", "90 25 0:50 / /vusb", "90 25 0:50 / /vusb rw -"])
    func malformed(text: String) {
        #expect(MountState.type(of: "/vusb", mountInfo: text) == nil)
    }
}
