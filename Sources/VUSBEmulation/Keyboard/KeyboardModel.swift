// SPDX-License-Identifier: Apache-2.0

package import VUSBCore

/// A boot-protocol keyboard (HID 1.11, appendix B): eight-byte reports of a modifier byte, a reserved one, and six
/// keys. Somebody types on it from outside; its report protocol's reports are those of the boot protocol.
package struct KeyboardModel: DeviceModel {
    package typealias Job = Never

    /// Reports that wait to be read: two a character.
    package static let queueLimit = 8192

    private static let input = EndpointAddress(rawValue: 0x81)
    private static let leftShift: UInt8 = 2
    private static let released = Report(modifiers: 0, usage: 0)

    /// HID 1.11, 7.2.
    private enum Request {
        static let getReport: UInt8 = 1
        static let getIdle: UInt8 = 2
        static let getProtocol: UInt8 = 3
        static let setReport: UInt8 = 9
        static let setIdle: UInt8 = 10
        static let setProtocol: UInt8 = 11
    }

    private enum ReportType {
        static let input: UInt8 = 1
        static let output: UInt8 = 2
    }

    private struct Report: Sendable, Equatable {
        var modifiers: UInt8
        var usage: UInt8
        var bytes: [UInt8] { [modifiers, 0, usage, 0, 0, 0, 0, 0] }
    }

    private var queue: [Report] = []
    /// The first of `queue` that hasn't been read.
    private var next = 0
    private var current = Self.released
    /// As the host sets them: bit 0 num lock, 1 caps lock, 2 scroll lock, 3 compose, 4 kana.
    package private(set) var leds: UInt8 = 0
    /// In 4 ms; 0 is for ever: a report only when a key changes.
    private var idleRate: UInt8 = 0
    private var lastReport: UInt64 = 0
    private var usesReportProtocol = true

    package init() {}

    // MARK: - Typing

    /// Presses and releases the keys of `text`, one after the other, as fast as the host reads them.
    /// - Throws: `invalid` for a character that has no key on a US keyboard, `busy` where more keys wait to be read
    ///   than are kept; then none of `text` is typed.
    package mutating func type(_ text: String, effects: inout Effects) throws(USBError) {
        var reports: [Report] = []
        for character in text {
            guard let stroke = KeyboardLayout.stroke(for: character) else {
                throw USBError(
                    .invalid,
                    "the character \(Self.name(character)) has no key",
                    remedy: "type ASCII characters, line breaks and tabs: the keyboard has a US layout"
                )
            }
            reports.append(Report(modifiers: stroke.isShifted ? Self.leftShift : 0, usage: stroke.usage))
            reports.append(Self.released)
        }
        try enqueue(reports, &effects)
    }

    /// Presses and releases keys by their names: those of `KeyName`, or the character that one types.
    /// - Throws: `invalid` for a name that no key has, `busy` as `type` does.
    package mutating func press(_ keys: [String], effects: inout Effects) throws(USBError) {
        var reports: [Report] = []
        for key in keys {
            let typed = key.count == 1 ? key.first.flatMap(KeyboardLayout.stroke) : nil
            guard let usage = KeyName.usage(key.lowercased()) ?? typed?.usage else {
                throw USBError(
                    .invalid, "no key is called '\(key)'",
                    remedy: "there are \(KeyName.all.joined(separator: ", ")), and each character by itself")
            }
            // A modifier is a bit, no key of the report's array.
            let modifier: UInt8? = (0xe0...0xe7).contains(usage) ? 1 << (usage - 0xe0) : nil
            reports.append(Report(modifiers: modifier ?? 0, usage: modifier == nil ? usage : 0))
            reports.append(Self.released)
        }
        try enqueue(reports, &effects)
    }

    private mutating func enqueue(_ reports: [Report], _ effects: inout Effects) throws(USBError) {
        guard queue.count - next + reports.count <= Self.queueLimit else {
            throw USBError(
                .busy,
                "\((queue.count - next) / 2) keys wait to be read, and \(Self.queueLimit / 2) is all that are kept",
                remedy: "attach the keyboard to a guest that reads it, or type less at once"
            )
        }
        // What was read goes first: a queue that never runs empty would else only grow.
        queue.removeFirst(next)
        next = 0
        queue.append(contentsOf: reports)
        effects.wake.insert(Self.input)
    }

    private static func name(_ character: Character) -> String {
        "\"\(character)\" ("
            + character.unicodeScalars.map { "U+" + String($0.value, radix: 16, uppercase: true) }.joined(
                separator: " ")
            + ")"
    }

    // MARK: - USB

    package mutating func transfer(
        _ urb: inout URB,
        on endpoint: EndpointDescriptor,
        moved: inout Int,
        effects: inout Effects
    ) -> Verdict<Never> {
        guard next < queue.count || isRepeatDue(&effects) else { return .wait }
        guard urb.requestedLength >= 8 else { return .complete(.babble) }
        if next < queue.count { takeNext() }
        lastReport = effects.now
        moved = urb.write(current.bytes)
        return .complete(.success)
    }

    private mutating func takeNext() {
        current = queue[next]
        next += 1
        guard next == queue.count else { return }
        queue.removeAll(keepingCapacity: queue.capacity <= 256)
        next = 0
    }

    /// HID 1.11, 7.2.4: with an idle rate the same report is sent again after that time.
    private func isRepeatDue(_ effects: inout Effects) -> Bool {
        guard idleRate > 0 else { return false }
        let time = lastReport + UInt64(idleRate) * 4_000_000
        if time > effects.now { effects.wakeAt = time }
        return time <= effects.now
    }

    package mutating func control(
        _ setup: SetupPacket,
        _ urb: borrowing URB,
        effects: inout Effects
    ) -> ControlReply {
        guard setup.kind == .class, setup.recipient == .interface, setup.wIndex == 0 else { return .stall }
        let isIn = setup.bmRequestType & 0x80 != 0
        let low = UInt8(truncatingIfNeeded: setup.wValue)
        let high = UInt8(setup.wValue >> 8)
        switch (setup.bRequest, isIn) {
        case (Request.getReport, true) where low == 0 && high == ReportType.input: return .data(current.bytes)
        case (Request.getReport, true) where low == 0 && high == ReportType.output: return .data([leds])
        case (Request.setReport, false) where low == 0 && high == ReportType.output && setup.wLength == 1:
            leds = (urb.bytes().first ?? 0) & 0x1f
        case (Request.getIdle, true) where low == 0: return .data([idleRate])
        case (Request.setIdle, false) where low == 0 && setup.wLength == 0:
            idleRate = high
            effects.wake.insert(Self.input)
        case (Request.getProtocol, true) where setup.wValue == 0: return .data([usesReportProtocol ? 1 : 0])
        case (Request.setProtocol, false) where setup.wValue <= 1 && setup.wLength == 0:
            usesReportProtocol = setup.wValue == 1
        default: return .stall
        }
        return .acknowledge
    }

    package func interfaceDescriptor(type: UInt8, index: UInt8, interface: UInt8) -> [UInt8]? {
        guard interface == 0, index == 0 else { return nil }
        return switch type {
        case DescriptorType.hid: Self.hidDescriptor
        case DescriptorType.hidReport: Self.reportDescriptor
        default: nil
        }
    }

    /// Keys that wait to be read stay: they were pressed.
    package mutating func settingsChanged() {
        idleRate = 0
        leds = 0
        usesReportProtocol = true
    }
}

extension KeyboardModel {
    /// HID 1.11, appendix B.1.
    private static let reportDescriptor: [UInt8] = [
        0x05, 0x01,  // usage page: generic desktop
        0x09, 0x06,  // usage: keyboard
        0xa1, 0x01,  // collection: application
        0x05, 0x07, 0x19, 0xe0, 0x29, 0xe7,  // usages: left control to right GUI
        0x15, 0x00, 0x25, 0x01, 0x75, 0x01, 0x95, 0x08, 0x81, 0x02,  // input: eight modifier bits
        0x95, 0x01, 0x75, 0x08, 0x81, 0x01,  // input: a constant byte
        0x95, 0x05, 0x75, 0x01, 0x05, 0x08, 0x19, 0x01, 0x29, 0x05, 0x91, 0x02,  // output: five LEDs
        0x95, 0x01, 0x75, 0x03, 0x91, 0x01,  // output: three constant bits
        0x95, 0x06, 0x75, 0x08, 0x15, 0x00, 0x25, 0x65,  // six bytes of 0 to 101
        0x05, 0x07, 0x19, 0x00, 0x29, 0x65, 0x81, 0x00,  // input: an array of keys
        0xc0,
    ]

    /// HID 1.11, no country, one report descriptor.
    private static let hidDescriptor: [UInt8] = [
        9, DescriptorType.hid, 0x11, 0x01, 0, 1, DescriptorType.hidReport, UInt8(reportDescriptor.count), 0,
    ]

    static let kind = Blueprint.Kind(
        name: "keyboard",
        product: "Keyboard",
        identity: (0x0525, 0xa4ac),
        speeds: [.full, .low, .high, .super],
        interfaces: 1,
        attributes: 0xa0
    ) { speed in
        // Every 10 ms, or as near as the speed has it.
        let interval: UInt8 = speed == .low || speed == .full ? 10 : 7
        return DescriptorBuilder.interface(0, endpoints: 1, class: (3, 1, 1)) + hidDescriptor
            + DescriptorBuilder.endpoint(0x81, .interrupt, maxPacket: 8, interval: interval, speed: speed)
    }
}
