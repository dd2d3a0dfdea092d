// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore

@testable import VUSBUevent

@Suite("Messages about devices")
struct UeventBytesTests {
    private let event = Uevent(
        .add, devicePath: "/bus/usb/vusb/usb1/1-1", subsystem: "usb",
        properties: [.init("DEVNAME", "bus/usb/001/002"), .init("DEVTYPE", "usb_device"), .init("BUSNUM", "001")]
    )

    @Test("the kernel's form is a headline and strings, each ended by a NUL")
    func kernel() {
        let expected =
            "add@/bus/usb/vusb/usb1/1-1\0ACTION=add\0DEVPATH=/bus/usb/vusb/usb1/1-1\0SUBSYSTEM=usb\0"
            + "DEVNAME=bus/usb/001/002\0DEVTYPE=usb_device\0BUSNUM=001\0"
        #expect(event.kernelBytes == Array(expected.utf8))
    }

    @Test("udevd's form is a header of 40 bytes and the strings, with the node's whole path and a number")
    func udev() {
        let bytes = event.udevBytes(sequenceNumber: 7, microseconds: 99)
        let strings =
            "ACTION=add\0DEVPATH=/bus/usb/vusb/usb1/1-1\0SUBSYSTEM=usb\0DEVNAME=/dev/bus/usb/001/002\0"
            + "DEVTYPE=usb_device\0BUSNUM=001\0SEQNUM=7\0USEC_INITIALIZED=99\0"
        #expect(Array(bytes[40...]) == Array(strings.utf8))
        // "libudev", magic, sizes in the order of x86, length, hashes of "usb" and "usb_device", no tags.
        let length = UInt8(strings.utf8.count)
        #expect(
            Array(bytes[..<40]) == [
                0x6c, 0x69, 0x62, 0x75, 0x64, 0x65, 0x76, 0x00, 0xfe, 0xed, 0xca, 0xfe, 40, 0, 0, 0, 40, 0, 0, 0,
                length, 0, 0, 0, 0x05, 0x77, 0xc5, 0xe5, 0x27, 0xf8, 0xf5, 0x0c, 0, 0, 0, 0, 0, 0, 0, 0,
            ])
    }

    @Test("a message without a device type has no hash of one")
    func untyped() {
        let event = Uevent(.remove, devicePath: "/x", subsystem: "usb", properties: [])
        #expect(Array(event.udevBytes(sequenceNumber: 1, microseconds: 1)[28..<32]) == [0, 0, 0, 0])
    }

    @Test("netlink's header counts itself, asks for an answer, and isn't of a type of netlink's own")
    func netlink() {
        // Length 19, type 0x10, flags REQUEST and ACK, sequence and port 0; in the order of x86.
        #expect(
            NetlinkMessage.request([1, 2, 3]) == [19, 0, 0, 0, 0x10, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3])
    }

    @Test("root of a user namespace is found in its map, wherever it stands")
    func userMap() {
        #expect(UserMap.root(parsing: "         0          0 4294967295\n") == 0)
        #expect(UserMap.root(parsing: "         0     100000      65536\n") == 100000)
        #expect(UserMap.root(parsing: "1 200000 10\n0 1000 1\n") == 1000)
        #expect(UserMap.root(parsing: "1000 1000 1\n") == nil)
        #expect(UserMap.root(parsing: "") == nil)
        #expect(UserMap.root(parsing: "0 x 1\n0 5\n") == nil)
    }
}
