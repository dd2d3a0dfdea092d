// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import VUSBHost

@Suite struct UeventMessageTests {
    private static let path = "/devices/pci0000:00/0000:00:03.0/usb1/1-2/1-2.3"

    private static func bytes(_ strings: [String]) -> [UInt8] { strings.flatMap { Array($0.utf8) + [0] } }

    private static let arrival = bytes([
        "add@" + path, "ACTION=add", "DEVPATH=" + path, "SUBSYSTEM=usb", "MAJOR=189", "MINOR=4",
        "DEVNAME=bus/usb/001/005", "DEVTYPE=usb_device", "PRODUCT=525/a4a0/100", "TYPE=0/0/0", "BUSNUM=001",
        "DEVNUM=005", "SEQNUM=1523",
    ])

    private func parse(_ bytes: [UInt8]) -> UeventMessage? { UeventMessage(parsing: bytes.span) }

    @Test func `a device's arrival is read whole`() throws {
        let message = try #require(parse(Self.arrival))
        #expect(message.action == "add")
        #expect(message.deviceName == "1-2.3")
        #expect(message.isUSBDevice)
        #expect(message.busNumber == 1)
        #expect(message.deviceNumber == 5)
    }

    @Test func `an interface isn't a device`() throws {
        let message = try #require(parse(Self.bytes(["bind@/x/1-2:1.0", "SUBSYSTEM=usb", "DEVTYPE=usb_interface"])))
        #expect(!message.isUSBDevice)
    }

    @Test func `a message cut short anywhere is refused or ends at a string's end`() {
        for count in 0..<Self.arrival.count {
            let cut = Array(Self.arrival[..<count])
            if cut.last == 0 { continue }
            #expect(parse(cut) == nil, "\(count) bytes")
        }
    }

    @Test func `udevd's messages are left to those who want them`() {
        // Prefix, magic and header of libudev's own format, then properties.
        let header: [UInt8] = Array("libudev".utf8) + [0, 0xfe, 0xed, 0xca, 0xfe, 40, 0, 0, 0, 40, 0, 0, 0]
        #expect(parse(header + Self.arrival) == nil)
    }

    @Test(arguments: [
        ["add@"], ["@/devices/x"], ["add"], ["add@devices/x"], ["add@/x", "NOTHING"], ["add@/x", "=value"],
        ["add@/x", "ACTION=remove"], ["add@/x", "DEVPATH=/y"], ["", "add@/x"], ["add@/x", ""],
    ])
    func `a message that isn't well-formed is refused`(strings: [String]) {
        #expect(parse(Self.bytes(strings)) == nil)
    }

    @Test func `64 KiB are read, and one byte more are refused`() {
        let start = Self.bytes(["add@/x"]) + Array("A=".utf8)
        let fill = [UInt8](repeating: 0x61, count: UeventMessage.maximumByteCount - start.count - 1)
        #expect(parse(start + fill + [0]) != nil)
        #expect(parse(start + fill + [0x61, 0]) == nil)
    }

    @Test func `bytes that aren't UTF-8 and numbers that aren't numbers do no harm`() throws {
        let message = try #require(
            parse(Array("add@/x/".utf8) + [0xff, 0xfe, 0] + Self.bytes(["BUSNUM=99999999999999999999", "DEVNUM=-"]))
        )
        #expect(message.busNumber == nil)
        #expect(message.deviceNumber == nil)
        #expect(!SysfsEnumerator.isDeviceName(message.deviceName))
    }
}
