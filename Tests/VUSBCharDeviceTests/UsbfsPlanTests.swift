// SPDX-License-Identifier: Apache-2.0

import Glibc
import Testing
import VUSBCore

@testable import VUSBCharDevice

@Suite("usbfs: numbers and rounds")
struct UsbfsPlanTests {
    private func plan(
        _ number: UInt32, _ input: [UInt8] = [], argument: UInt64 = 0x1000, out: Int = 0
    ) throws -> UsbfsPlan {
        let command = try #require(UsbfsCommand(number: number))
        return UsbfsPlan(command, argument: argument, input: input.span, outCount: out)
    }

    private func again(_ ranges: (UInt64, Int)..., out: [(UInt64, Int)] = []) -> UsbfsPlan {
        var list = CallerRanges()
        for (start, count) in ranges { list.addIn(CallerRange(start: start, count: count)) }
        for (start, count) in out { list.addOut(CallerRange(start: start, count: count)) }
        return .again(list)
    }

    @Test("each number is known in its 64-bit and its 32-bit form, by the size in it")
    func numbers() {
        let wanted: [(UInt32, UsbfsCommand)] = [
            (0xc018_5500, UsbfsCommand(.control)), (0xc010_5500, UsbfsCommand(.control, .compat)),
            (0xc018_5502, UsbfsCommand(.bulk)), (0xc010_5502, UsbfsCommand(.bulk, .compat)),
            (0x8038_550a, UsbfsCommand(.submitURB)), (0x802c_550a, UsbfsCommand(.submitURB, .compat)),
            (0x4008_550c, UsbfsCommand(.reapURB(waits: true))),
            (0x4004_550c, UsbfsCommand(.reapURB(waits: true), .compat)),
            (0x4008_550d, UsbfsCommand(.reapURB(waits: false))),
            (0x4004_550d, UsbfsCommand(.reapURB(waits: false), .compat)),
            (0x8010_550e, UsbfsCommand(.disconnectSignal)), (0x8008_550e, UsbfsCommand(.disconnectSignal, .compat)),
            (0xc010_5512, UsbfsCommand(.ioctl)), (0xc00c_5512, UsbfsCommand(.ioctl, .compat)),
            (0x0000_550b, UsbfsCommand(.discardURB)), (0x8004_550f, UsbfsCommand(.claimInterface)),
            (0x4104_5508, UsbfsCommand(.getDriver)), (0x8108_551b, UsbfsCommand(.disconnectClaim)),
            (0x8018_5520, UsbfsCommand(.connectInfoEx(length: 24))),
        ]
        for (number, command) in wanted { #expect(UsbfsCommand(number: number) == command) }
    }

    @Test(
        "numbers that usbfs hasn't got aren't known",
        arguments: [
            0, 0x5401, 0x8038_560a, 0x8039_550a, 0x4038_550a, 0xc038_550a, 0x5521, 0x5522, 0x5563, 0x8004_5513,
            0xffff_ffff,
        ] as [UInt32])
    func unknown(_ number: UInt32) { #expect(UsbfsCommand(number: number) == nil) }

    @Test("a structure is asked for, and carried out in the next round")
    func structure() throws {
        #expect(try plan(0x8004_550f) == again((0x1000, 4)))
        #expect(try plan(0x8004_550f, [3, 0, 0, 0]) == .carryOut(.claim(interface: 3)))
        #expect(try plan(0x8004_550f, [3, 0, 0]) == .fail(EINVAL))
        #expect(try plan(0x8008_5504, [1, 0, 0, 0, 2, 0, 0, 0]) == .carryOut(.setInterface(1, alternate: 2)))
        #expect(try plan(0x8004_551a) == again(out: [(0x1000, 4)]))
        #expect(try plan(0x8004_551a, out: 4) == .carryOut(.getCapabilities))
        #expect(try plan(0x8003_5520) == .fail(EINVAL))
        #expect(try plan(0x9000_5520) == again(out: [(0x1000, 24)]))
    }

    /// VENDOR, 0x5b, wLength as given, 1000 ms, data at 0x2000.
    private func control(_ type: UInt8, _ length: UInt16) -> [UInt8] {
        [type, 0x5b, 1, 0, 2, 0, UInt8(truncatingIfNeeded: length), UInt8(length >> 8), 0xe8, 3, 0, 0, 0, 0, 0, 0]
            + [0, 0x20, 0, 0, 0, 0, 0, 0]
    }

    @Test("CONTROL: OUT data are asked for, IN data a place for; at most a page")
    func controlRounds() throws {
        let setup = SetupPacket(bmRequestType: 0x40, bRequest: 0x5b, wValue: 1, wIndex: 2, wLength: 3)
        let out = control(0x40, 3)
        #expect(try plan(0xc018_5500) == again((0x1000, 24)))
        #expect(try plan(0xc018_5500, out) == again((0x1000, 24), (0x2000, 3)))
        #expect(try plan(0xc018_5500, out + [7, 8, 9]) == .carryOut(.control(setup, timeout: 1000, data: 24)))
        #expect(try plan(0xc018_5500, control(0xc0, 3)) == again((0x1000, 24), out: [(0x2000, 3)]))
        #expect(try plan(0xc018_5500, control(0x40, 4096)) == again((0x1000, 24), (0x2000, 4096)))
        #expect(try plan(0xc018_5500, control(0x40, 4097)) == .fail(EINVAL))
        guard case .carryOut(.control) = try plan(0xc018_5500, control(0x40, 0)) else {
            Issue.record("without data there is nothing more to be asked for")
            return
        }
    }

    @Test("a structure that was changed between two rounds is refused")
    func changed() throws {
        #expect(try plan(0xc018_5500, control(0x40, 4) + [7, 8, 9]) == .fail(EINVAL))
        #expect(try plan(0xc018_5500, control(0xc0, 4), out: 3) == .fail(EINVAL))
        #expect(try plan(0x8038_550a, urb(2, 100) + Array(repeating: 0, count: 99)) == .fail(EINVAL))
        #expect(try plan(0x8008_551c, [2, 0, 0, 0, 3, 0, 0, 0, 1, 2]) == .fail(EINVAL))
    }

    private func urb(
        _ endpoint: UInt8, _ length: UInt32, type: UInt8 = 3, flags: UInt32 = 0, packets: UInt32 = 0,
        buffer: UInt64 = 0x2000, signal: UInt32 = 0
    ) -> [UInt8] {
        TestUsbfsURB(
            type: type, endpoint: endpoint, flags: flags, buffer: buffer, length: length, packetsOrStream: packets,
            signal: signal
        ).bytes
    }

    @Test("SUBMITURB: bulk IN wants nothing more, bulk OUT its data")
    func submitBulk() throws {
        #expect(try plan(0x8038_550a) == again((0x1000, 56)))
        guard case .carryOut(.submit(let submitted, nil, _, 56)) = try plan(0x8038_550a, urb(0x81, 126_976)) else {
            Issue.record("an IN URB is complete")
            return
        }
        #expect(submitted.bufferLength == 126_976 && submitted.endpoint == 0x81 && submitted.buffer == 0x2000)
        #expect(try plan(0x8038_550a, urb(2, 126_976)) == again((0x1000, 56), (0x2000, 126_976)))
    }

    @Test("SUBMITURB: what can't be is refused before anything of it is copied (U1)")
    func submitRefused() throws {
        #expect(try plan(0x8038_550a, urb(0x81, 16 << 20 | 1)) == .fail(ENOMEM))
        #expect(try plan(0x8038_550a, urb(0x81, 0x8000_0000)) == .fail(EINVAL))
        #expect(try plan(0x8038_550a, urb(0x81, 8, buffer: 0)) == .fail(EINVAL))
        #expect(try plan(0x8038_550a, urb(0x81, 8, type: 4)) == .fail(EINVAL))
        #expect(try plan(0x8038_550a, urb(0x81, 8, flags: 0x08)) == .fail(EINVAL))
        #expect(try plan(0x8038_550a, urb(0x81, 8, flags: 0x02)) == .fail(EINVAL))
        // Signals can't be sent from here.
        #expect(try plan(0x8038_550a, urb(0x81, 8, signal: 10)) == .fail(EINVAL))
        #expect(try plan(0x8038_550a, urb(0, 7, type: 2)) == .fail(EINVAL))
        #expect(try plan(0x8038_550a, urb(0x83, 8, type: 0, packets: 0)) == .fail(EINVAL))
        #expect(try plan(0x8038_550a, urb(0x83, 8, type: 0, packets: 129)) == .fail(EINVAL))
    }

    @Test("SUBMITURB: a control URB's setup packet says whether there are data to be had")
    func submitControl() throws {
        let head = urb(0, 8 + 4, type: 2)
        #expect(try plan(0x8038_550a, head) == again((0x1000, 56), (0x2000, 8)))
        let out: [UInt8] = [0x40, 0x5b, 0, 0, 0, 0, 4, 0]
        #expect(try plan(0x8038_550a, head + out) == again((0x1000, 56), (0x2000, 12)))
        for bytes in [head + out + [1, 2, 3, 4], head + [0xc0, 0x5c, 0, 0, 0, 0, 4, 0]] {
            guard case .carryOut(.submit(_, let setup?, _, 64)) = try plan(0x8038_550a, bytes) else {
                Issue.record("it's complete")
                continue
            }
            #expect(setup.wLength == 4)
        }
        // More than its buffer has.
        #expect(try plan(0x8038_550a, head + [0x40, 0x5b, 0, 0, 0, 0, 5, 0]) == .fail(EINVAL))
    }

    @Test("SUBMITURB: packets are read with the URB, and their sum is its length")
    func submitIsochronous() throws {
        let head = urb(0x04, 0, type: 0, flags: 2, packets: 2)
        let rest = Array(repeating: UInt8(0), count: 8)
        let packets: [UInt8] = [100, 0, 0, 0] + rest + [50, 0, 0, 0] + rest
        #expect(try plan(0x8038_550a, head) == again((0x1000, 80)))
        #expect(try plan(0x8038_550a, head + packets) == again((0x1000, 80), (0x2000, 150)))
        let whole = head + packets + Array(repeating: 1, count: 150)
        guard case .carryOut(.submit(let submitted, nil, 56, 80)) = try plan(0x8038_550a, whole) else {
            Issue.record("it's complete")
            return
        }
        #expect(submitted.bufferLength == 150)
        let tooLong = urb(0x83, 0, type: 0, packets: 1) + [1, 0x80, 1, 0] + Array(repeating: 0, count: 8)
        #expect(try plan(0x8038_550a, tooLong) == .fail(EINVAL))
    }

    @Test("the 32-bit form of a URB: pointers of 4 bytes, and what follows them 8 bytes earlier")
    func compatURB() throws {
        let bytes: [UInt8] =
            [3, 0x81, 0, 0] + [0, 0, 0, 0] + [1, 0, 0, 0]  // type, endpoint; status; flags
            + [0, 0x20, 0, 0x80]  // buffer 0x80002000
            + [0, 2, 0, 0] + [0, 0, 0, 0] + [0, 0, 0, 0]  // 512 bytes; actual length; start frame
            + [5, 0, 0, 0] + [0, 0, 0, 0] + [0, 0, 0, 0] + [0, 0, 0, 0]  // stream; errors; signal; context
        #expect(bytes.count == 44)
        guard case .carryOut(.submit(let urb, nil, _, 44)) = try plan(0x802c_550a, bytes) else {
            Issue.record("an IN URB is complete")
            return
        }
        #expect(urb.buffer == 0x8000_2000 && urb.bufferLength == 512 && urb.packetsOrStream == 5 && urb.flags == 1)
    }

    @Test("streams: as many endpoints as it says, at most 30")
    func streams() throws {
        #expect(try plan(0x8008_551c) == again((0x1000, 8)))
        #expect(try plan(0x8008_551c, [2, 0, 0, 0, 2, 0, 0, 0]) == again((0x1000, 10)))
        #expect(
            try plan(0x8008_551c, [2, 0, 0, 0, 2, 0, 0, 0, 0x81, 2])
                == .carryOut(.allocateStreams(count: 2, endpoints: [0x81, 2])))
        #expect(try plan(0x8008_551c, [2, 0, 0, 0, 0, 0, 0, 0]) == .fail(EINVAL))
        #expect(try plan(0x8008_551c, [2, 0, 0, 0, 31, 0, 0, 0]) == .fail(EINVAL))
    }
}
