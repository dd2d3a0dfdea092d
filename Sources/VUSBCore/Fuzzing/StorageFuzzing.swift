// SPDX-License-Identifier: Apache-2.0

/// Drives `StorageTracker` with bytes that mean nothing, or half of something. A fuzz target and a unit test call it
/// once for each input.
package enum StorageFuzzing {
    /// Reads `input` as a stream of transfers, resets and changes of the settings. Traps where a promise is broken.
    package static func run(_ input: [UInt8]) {
        guard var session = FuzzSession(input) else { preconditionFailure("the device is a constant") }
        while session.step() {}
        session.end()
    }
}

private struct FuzzSession {
    /// Bulk-only at alternate setting 0, UAS at 1.
    private static let bytes: [UInt8] =
        [18, 1, 0x00, 0x02, 0, 0, 0, 64, 1, 0, 1, 0, 0, 1, 0, 0, 0, 1]
        + [9, 2, 85, 0, 1, 1, 0, 0x80, 50]
        + [9, 4, 0, 0, 2, 8, 6, 0x50, 0] + [7, 5, 0x81, 2, 0, 2, 0] + [7, 5, 0x02, 2, 0, 2, 0]
        + [9, 4, 0, 1, 4, 8, 6, 0x62, 0] + [7, 5, 0x04, 2, 0, 2, 0, 4, 0x24, 1, 0]
        + [7, 5, 0x83, 2, 0, 2, 0, 4, 0x24, 2, 0] + [7, 5, 0x81, 2, 0, 2, 0, 4, 0x24, 3, 0]
        + [7, 5, 0x02, 2, 0, 2, 0, 4, 0x24, 4, 0]

    private static let interface = InterfaceNumber(rawValue: 0)

    private var input: FuzzStream
    private var tracker: StorageTracker
    private let now = ContinuousClock.now
    private var sent: UInt32 = 0

    init?(_ input: [UInt8]) {
        guard let descriptors = try? Descriptors(parsing: Self.bytes),
            let tracker = StorageTracker(descriptors, ActiveSettings(descriptors, configurationValue: 1))
        else { return nil }
        self.tracker = tracker
        self.input = FuzzStream(input)
    }

    /// False at the end of the input.
    mutating func step() -> Bool {
        guard !input.isEmpty else { return false }
        switch input.byte() % 10 {
        case 0: send(0x02, [0x55, 0x53, 0x42, 0x43] + take(27, fill: true))
        case 1: receive(0x81, [0x55, 0x53, 0x42, 0x53] + take(9, fill: true))
        case 2: send(0x04, [0x01] + take(31, fill: true))
        case 3: receive(0x83, [0x03] + take(18, fill: true))
        case 4: receive(0x83, take(8))
        case 5: send(input.byte() & 0x0f, take(Int(input.byte())))
        case 6: receive(input.byte() | 0x80, take(Int(input.byte())))
        case 7: tracker.interfaceChanged(Self.interface, alternate: input.byte() % 3)
        case 8: tracker.configurationChanged(input.byte() % 2)
        default: control()
        }
        check()
        return true
    }

    /// A unit is clean once a flush of it has succeeded with nothing else under way, whatever came before.
    mutating func end() {
        tracker.configurationChanged(1)
        for unit in tracker.units where !unit.isShared {
            let tag: [UInt8] = [9, 9, 9, UInt8(truncatingIfNeeded: unit.lun)]
            guard unit.lun < 16 else { continue }
            let header: [UInt8] = [0x55, 0x53, 0x42, 0x43] + tag + [0, 0, 0, 0, 0, UInt8(unit.lun), 10, 0x35]
            send(0x02, header + Array(repeating: 0, count: 15))
            receive(0x81, [0x55, 0x53, 0x42, 0x53] + tag + [0, 0, 0, 0, 0])
            precondition(tracker.state.units.contains { $0.lun == unit.lun && $0.condition == .clean })
        }
    }

    private func check() {
        let state = tracker.state
        precondition(state.units.count <= StorageTracker.unitLimit)
        precondition(state.isClean == (state.reason(at: now) == nil))
        precondition(Set(state.units.map(\.lun)).count == state.units.count)
    }

    private mutating func control() {
        let bytes = take(8, fill: true)
        if let setup = SetupPacket(bytes.span) { tracker.controlSucceeded(setup) }
        if bytes[0] & 1 == 0 { tracker.deviceWasReset() }
    }

    private mutating func send(_ endpoint: UInt8, _ bytes: [UInt8]) {
        sent += 1
        let token = URBToken(index: Int(sent % 8), generation: 1)
        let transfer = transfer(endpoint, bytes.count, token)
        let now = now
        tracker.willSend(transfer, bytes.span, at: { now })
        tracker.sent(transfer, succeeded: input.byte() % 8 != 1, bytes.span)
    }

    private mutating func receive(_ endpoint: UInt8, _ bytes: [UInt8]) {
        tracker.received(transfer(endpoint, bytes.count, .none), bytes.span)
    }

    private mutating func transfer(_ endpoint: UInt8, _ length: Int, _ token: URBToken) -> StorageTracker.Transfer {
        StorageTracker.Transfer(
            endpoint: EndpointAddress(rawValue: endpoint),
            token: token,
            length: length,
            streamID: UInt16(input.byte())
        )
    }

    /// - Parameter fill: with zeros, where the input ends before.
    private mutating func take(_ count: Int, fill: Bool = false) -> [UInt8] {
        let bytes = input.take(count)
        return fill ? bytes + Array(repeating: 0, count: count - bytes.count) : bytes
    }
}
