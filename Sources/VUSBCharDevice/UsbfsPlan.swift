// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import VUSBCore

/// A range of a caller's memory.
struct CallerRange: Equatable, Sendable {
    var start: UInt64
    var count: Int
}

/// The ranges of a caller's memory that the next round of an ioctl is to have: copied in before, and out after it. No
/// allocation.
struct CallerRanges: Equatable, Sendable {
    static let limit = 8
    private var storage: InlineArray<8, CallerRange> = InlineArray(repeating: CallerRange(start: 0, count: 0))
    private(set) var inCount = 0
    private(set) var outCount = 0

    init() {}

    /// Inputs come before outputs. More than there is room for are a defect.
    init(in input: CallerRange, _ more: CallerRange? = nil, out: CallerRange? = nil) {
        addIn(input)
        if let more { addIn(more) }
        if let out { addOut(out) }
    }

    mutating func addIn(_ range: CallerRange) {
        precondition(outCount == 0)
        storage[inCount] = range
        inCount += 1
    }

    mutating func addOut(_ range: CallerRange) {
        storage[inCount + outCount] = range
        outCount += 1
    }

    var count: Int { inCount + outCount }
    subscript(index: Int) -> CallerRange { storage[index] }

    /// Bytes that go out at most.
    var outBytes: Int { (inCount..<count).reduce(0) { $0 + storage[$1].count } }

    static func == (left: CallerRanges, right: CallerRanges) -> Bool {
        left.inCount == right.inCount && left.outCount == right.outCount
            && (0..<left.count).allSatisfy { left[$0] == right[$0] }
    }
}

/// The next step of an ioctl, as it follows from its number, its argument and what earlier rounds brought. Pure: what
/// is at the device doesn't matter here.
enum UsbfsPlan: Equatable, Sendable {
    /// Another round, with these.
    case again(CallerRanges)
    case carryOut(UsbfsRequest)
    /// An errno.
    case fail(Int32)

    /// - Parameters:
    ///   - argument: the ioctl's third, a pointer as a rule.
    ///   - input: what the ranges of the last round brought; empty in the first.
    ///   - outCount: bytes that this round may write.
    init(_ command: UsbfsCommand, argument: UInt64, input: Span<UInt8>, outCount: Int) {
        let round = UsbfsRound(layout: command.layout, argument: argument, outCount: outCount)
        self =
            switch command.kind {
            case .control: round.control(input)
            case .bulk: round.bulk(input)
            case .submitURB: round.submit(input)
            case .discardURB: .carryOut(.discard)
            case .reapURB(let waits): .carryOut(.reap(waits: waits, offer: outCount))
            case .resetEndpoint: round.number(input) { .resetEndpoint($0) }
            case .clearHalt: round.number(input) { .clearHalt($0) }
            case .setConfiguration: round.number(input) { .setConfiguration(Int32(bitPattern: $0)) }
            case .claimInterface: round.number(input) { .claim(interface: $0) }
            case .releaseInterface: round.number(input) { .release(interface: $0) }
            case .claimPort, .releasePort: round.number(input) { _ in .port }
            case .dropPrivileges: round.number(input) { .dropPrivileges(mask: $0) }
            case .setInterface: round.structure(input, 8) { .setInterface($0.u32(0), alternate: $0.u32(4)) }
            case .getDriver: round.getDriver(input)
            case .disconnectSignal:
                round.structure(input, command.layout.signalSize) { .disconnectSignal($0.u32(0)) }
            case .connectInfo: round.result(UsbfsABI.connectInfoSize, .connectInfo)
            case .getCapabilities: round.result(4, .getCapabilities)
            case .connectInfoEx(let length): round.connectInfoEx(length)
            case .ioctl:
                round.structure(input, command.layout.ioctlSize) { .ioctl(interface: $0.i32(0), code: $0.u32(4)) }
            case .disconnectClaim:
                round.structure(input, UsbfsABI.disconnectClaimSize) {
                    .disconnectClaim(
                        interface: $0.u32(0), flags: $0.u32(4), namesUsbfs: UsbfsRound.isUsbfs($0))
                }
            case .allocateStreams: round.streams(input) { .allocateStreams(count: $0, endpoints: $1) }
            case .freeStreams: round.streams(input) { .freeStreams(endpoints: $1) }
            case .reset: .carryOut(.reset)
            case .getSpeed: .carryOut(.getSpeed)
            }
    }
}

/// One round of an ioctl.
private struct UsbfsRound {
    let layout: UsbfsLayout
    let argument: UInt64
    let outCount: Int

    private func range(_ count: Int) -> CallerRange { CallerRange(start: argument, count: count) }

    /// Of a structure and nothing else.
    func structure(_ input: Span<UInt8>, _ count: Int, _ make: (Span<UInt8>) -> UsbfsRequest) -> UsbfsPlan {
        if input.isEmpty { return .again(CallerRanges(in: range(count))) }
        return input.count == count ? .carryOut(make(input)) : .fail(EINVAL)
    }

    func number(_ input: Span<UInt8>, _ make: (UInt32) -> UsbfsRequest) -> UsbfsPlan {
        structure(input, 4) { make($0.u32(0)) }
    }

    /// Nothing in, a structure out.
    func result(_ count: Int, _ request: UsbfsRequest) -> UsbfsPlan {
        if outCount == count { return .carryOut(request) }
        guard outCount == 0 else { return .fail(EINVAL) }
        var ranges = CallerRanges()
        ranges.addOut(range(count))
        return .again(ranges)
    }

    func connectInfoEx(_ length: Int) -> UsbfsPlan {
        guard length >= 4 else { return .fail(EINVAL) }
        return result(min(length, UsbfsABI.connectInfoExSize), .connectInfoEx(length: length))
    }

    func getDriver(_ input: Span<UInt8>) -> UsbfsPlan {
        if input.isEmpty, outCount == 0 {
            return .again(CallerRanges(in: range(4), out: range(UsbfsABI.driverSize)))
        }
        guard input.count == 4, outCount == UsbfsABI.driverSize else { return .fail(EINVAL) }
        return .carryOut(.getDriver(interface: input.u32(0)))
    }

    func streams(_ input: Span<UInt8>, _ make: (UInt32, [UInt8]) -> UsbfsRequest) -> UsbfsPlan {
        if input.isEmpty { return .again(CallerRanges(in: range(8))) }
        guard input.count >= 8 else { return .fail(EINVAL) }
        let count = input.u32(4)
        guard count >= 1, count <= UsbfsABI.streamEndpointLimit else { return .fail(EINVAL) }
        if input.count == 8 { return .again(CallerRanges(in: range(8 + Int(count)))) }
        guard input.count == 8 + Int(count) else { return .fail(EINVAL) }
        return .carryOut(make(input.u32(0), (8..<input.count).map { input[$0] }))
    }

    static func isUsbfs(_ bytes: Span<UInt8>) -> Bool {
        let name: [UInt8] = Array("usbfs".utf8) + [0]
        return name.indices.allSatisfy { bytes[8 + $0] == name[$0] }
    }

    // MARK: - Transfers

    func control(_ input: Span<UInt8>) -> UsbfsPlan {
        let size = layout.controlSize
        if input.isEmpty { return .again(CallerRanges(in: range(size))) }
        guard input.count >= size else { return .fail(EINVAL) }
        let setup = SetupPacket(
            bmRequestType: input[0], bRequest: input[1], wValue: input.u16(2), wIndex: input.u16(4),
            wLength: input.u16(6))
        let data = CallerRange(start: input.pointer(layout.controlDataOffset, layout), count: Int(setup.wLength))
        guard data.count <= UsbfsABI.controlLimit else { return .fail(EINVAL) }
        return withData(input, size, data, isIn: setup.direction == .in) {
            .control(setup, timeout: input.u32(8), data: size)
        }
    }

    func bulk(_ input: Span<UInt8>) -> UsbfsPlan {
        let size = layout.bulkSize
        if input.isEmpty { return .again(CallerRanges(in: range(size))) }
        guard input.count >= size else { return .fail(EINVAL) }
        let (endpoint, length) = (input.u32(0), input.u32(4))
        guard length < UsbfsABI.transferLimit else { return .fail(EINVAL) }
        guard length <= UsbfsABI.dataLimit else { return .fail(ENOMEM) }
        let data = CallerRange(start: input.pointer(layout.bulkDataOffset, layout), count: Int(length))
        return withData(input, size, data, isIn: endpoint & 0x80 != 0) {
            .bulk(endpoint: endpoint, length: length, timeout: input.u32(8), data: size)
        }
    }

    /// The structure, and then its data or the place for them. What an earlier round asked for and what the structure
    /// says now must agree: it may have been changed in between.
    private func withData(
        _ input: Span<UInt8>, _ size: Int, _ data: CallerRange, isIn: Bool, _ make: () -> UsbfsRequest
    ) -> UsbfsPlan {
        let (inCount, wantedOut) = (size + (isIn ? 0 : data.count), isIn ? data.count : 0)
        if input.count == inCount, outCount == wantedOut { return .carryOut(make()) }
        guard input.count == size, outCount == 0 else { return .fail(EINVAL) }
        return .again(
            isIn ? CallerRanges(in: range(size), out: data) : CallerRanges(in: range(size), data))
    }

    // MARK: - SUBMITURB

    func submit(_ input: Span<UInt8>) -> UsbfsPlan {
        let size = layout.urbSize
        if input.isEmpty { return .again(CallerRanges(in: range(size))) }
        guard input.count >= size, let urb = UsbfsURB(input, layout) else { return .fail(EINVAL) }
        guard urb.flags & ~UsbfsABI.Flag.allowed(urb.kind) == 0, urb.bufferLength < UsbfsABI.transferLimit,
            urb.bufferLength == 0 || urb.buffer != 0, urb.signal == 0
        else { return .fail(EINVAL) }
        switch urb.kind {
        case .control: return submitControl(input, urb)
        case .isochronous: return submitIsochronous(input, urb)
        case .bulk, .interrupt: break
        }
        guard urb.bufferLength <= UsbfsABI.memoryLimit else { return .fail(ENOMEM) }
        let count = urb.isIn ? 0 : Int(urb.bufferLength)
        guard count <= UsbfsABI.dataLimit else { return .carryOut(.collect(urb, head: size)) }
        return finish(input.count, size, size, CallerRange(start: urb.buffer, count: count)) {
            .submit(urb, setup: nil, packets: size, data: size)
        }
    }

    private func submitControl(_ input: Span<UInt8>, _ urb: UsbfsURB) -> UsbfsPlan {
        let size = layout.urbSize
        guard urb.bufferLength >= SetupPacket.byteCount else { return .fail(EINVAL) }
        if input.count == size {
            return .again(
                CallerRanges(in: range(size), CallerRange(start: urb.buffer, count: SetupPacket.byteCount)))
        }
        guard input.count >= size + SetupPacket.byteCount else { return .fail(EINVAL) }
        guard let setup = SetupPacket(input.extracting(size..<size + SetupPacket.byteCount)),
            Int(urb.bufferLength) >= SetupPacket.byteCount + Int(setup.wLength)
        else { return .fail(EINVAL) }
        let count = SetupPacket.byteCount + (setup.direction == .out ? Int(setup.wLength) : 0)
        return finish(input.count, size + SetupPacket.byteCount, size, CallerRange(start: urb.buffer, count: count)) {
            .submit(urb, setup: setup, packets: size, data: size + SetupPacket.byteCount)
        }
    }

    private func submitIsochronous(_ input: Span<UInt8>, _ urb: UsbfsURB) -> UsbfsPlan {
        let size = layout.urbSize
        guard urb.packetsOrStream >= 1, urb.packetsOrStream <= UsbfsABI.packetLimit else { return .fail(EINVAL) }
        let head = size + UsbfsABI.packetSize * Int(urb.packetsOrStream)
        if input.count == size { return .again(CallerRanges(in: range(head))) }
        guard input.count >= head else { return .fail(EINVAL) }
        var total = 0
        for index in 0..<Int(urb.packetsOrStream) {
            let length = input.u32(size + UsbfsABI.packetSize * index)
            guard length <= UsbfsABI.packetLengthLimit else { return .fail(EINVAL) }
            total += Int(length)
        }
        guard total == 0 || urb.buffer != 0 else { return .fail(EFAULT) }
        guard total <= UsbfsABI.memoryLimit else { return .fail(ENOMEM) }
        var whole = urb
        whole.bufferLength = UInt32(total)
        guard urb.isIn || total <= UsbfsABI.dataLimit else { return .carryOut(.collect(whole, head: head)) }
        let data = CallerRange(start: urb.buffer, count: urb.isIn ? 0 : total)
        return finish(input.count, head, head, data) { .submit(whole, setup: nil, packets: size, data: head) }
    }

    /// - Parameters:
    ///   - had: bytes of input now.
    ///   - known: as many as there are in the round that asks for the data.
    ///   - head: bytes in front of the data.
    private func finish(
        _ had: Int, _ known: Int, _ head: Int, _ data: CallerRange, _ make: () -> UsbfsRequest
    ) -> UsbfsPlan {
        if had == head + data.count { return .carryOut(make()) }
        guard had == known else { return .fail(EINVAL) }
        return .again(CallerRanges(in: range(head), data))
    }
}
