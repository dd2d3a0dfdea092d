// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore

@Suite struct MountInfoTests {
    @Test func `a line gives device, place, type and source, with octal undone`() throws {
        let line = try #require(MountInfoLine(#"36 35 8:1 / /media/a\040b rw shared:1 master:2 - vfat /dev/c\134d rw"#))
        #expect(line.device == "8:1")
        #expect(line.mountPoint == "/media/a b")
        #expect(line.type == "vfat")
        #expect(line.source == #"/dev/c\d"#)
    }

    @Test func `an empty source doesn't move what follows into its place`() throws {
        #expect(try #require(MountInfoLine("36 35 0:4 / /run rw - tmpfs  rw,size=1")).source == "")
    }

    @Test(arguments: [#"/a\+07"#, #"/a\04"#, #"/a\400"#, #"/a\"#])
    func `what only looks like octal stays as it is`(point: String) throws {
        #expect(try #require(MountInfoLine("36 35 0:4 / \(point) rw - tmpfs none rw")).mountPoint == point)
    }

    @Test(arguments: ["", "36 35 8:1 / /media", "36 35 8:1 / /media rw -", "36 35 8:1 / /media rw - vfat"])
    func `a line that is cut short gives nothing`(line: String) {
        #expect(MountInfoLine(line[...]) == nil)
        #expect(MountInfoLine.all(in: line).isEmpty)
    }
}
