// SPDX-License-Identifier: Apache-2.0

import VUSBCore

/// Bits of a hello's capabilities: usb-redirection-protocol.txt, 0.7.
struct RedirCapabilities: OptionSet, Sendable {
    let rawValue: UInt32

    static let bulkStreams = RedirCapabilities(rawValue: 1 << 0)
    static let deviceVersion = RedirCapabilities(rawValue: 1 << 1)
    static let filter = RedirCapabilities(rawValue: 1 << 2)
    static let disconnectAcknowledge = RedirCapabilities(rawValue: 1 << 3)
    static let packetSize = RedirCapabilities(rawValue: 1 << 4)
    static let longIDs = RedirCapabilities(rawValue: 1 << 5)
    static let longBulk = RedirCapabilities(rawValue: 1 << 6)
    static let bulkReceiving = RedirCapabilities(rawValue: 1 << 7)

    static let all = RedirCapabilities(rawValue: 0xff)
    /// As in version 0.3 of the protocol.
    static let none: RedirCapabilities = []
}

/// Puts together, byte by byte, what a guest's side says to a host that has all capabilities.
struct RedirWire {
    let capabilities: RedirCapabilities

    static func little<Value: FixedWidthInteger>(_ value: Value) -> [UInt8] {
        (0..<Value.bitWidth / 8).map { UInt8(truncatingIfNeeded: value >> Value(8 * $0)) }
    }

    /// - Parameter length: what the header says; that of `body` where it isn't given.
    func message(_ type: UInt32, id: UInt64 = 0, _ body: [UInt8] = [], length: UInt32? = nil) -> [UInt8] {
        let isLong = capabilities.contains(.longIDs)
        let identifier = isLong ? Self.little(id) : Self.little(UInt32(truncatingIfNeeded: id))
        return Self.little(type) + Self.little(length ?? UInt32(body.count)) + identifier + body
    }

    /// Its id always has 32 bits.
    func hello(_ name: String = "peer 1") -> [UInt8] {
        let version = Array(name.utf8.prefix(64)) + Array(repeating: 0, count: 64 - min(64, name.utf8.count))
        let body = version + Self.little(capabilities.rawValue)
        return Self.little(UInt32(0)) + Self.little(UInt32(body.count)) + Self.little(UInt32(0)) + body
    }

    // MARK: - Settings

    func reset() -> [UInt8] { message(3) }
    func setConfiguration(_ id: UInt64, _ value: UInt8) -> [UInt8] { message(6, id: id, [value]) }
    func getConfiguration(_ id: UInt64) -> [UInt8] { message(7, id: id) }
    func setInterface(_ id: UInt64, _ number: UInt8, _ alternate: UInt8) -> [UInt8] {
        message(9, id: id, [number, alternate])
    }
    func getInterface(_ id: UInt64, _ number: UInt8) -> [UInt8] { message(10, id: id, [number]) }

    // MARK: - Streams

    func startIsochronous(_ endpoint: UInt8, packets: UInt8, urbs: UInt8) -> [UInt8] {
        message(12, [endpoint, packets, urbs])
    }
    func stopIsochronous(_ endpoint: UInt8) -> [UInt8] { message(13, [endpoint]) }
    func startInterrupt(_ endpoint: UInt8) -> [UInt8] { message(15, [endpoint]) }
    func stopInterrupt(_ endpoint: UInt8) -> [UInt8] { message(16, [endpoint]) }
    func allocateStreams(_ id: UInt64, endpoints: UInt32, count: UInt32) -> [UInt8] {
        message(18, id: id, Self.little(endpoints) + Self.little(count))
    }
    func freeStreams(_ id: UInt64, endpoints: UInt32) -> [UInt8] { message(19, id: id, Self.little(endpoints)) }
    func startBulk(_ endpoint: UInt8, bytes: UInt32, transfers: UInt8, streamID: UInt32 = 0) -> [UInt8] {
        message(25, Self.little(streamID) + Self.little(bytes) + [endpoint, transfers])
    }
    func stopBulk(_ endpoint: UInt8, streamID: UInt32 = 0) -> [UInt8] {
        message(26, Self.little(streamID) + [endpoint])
    }

    // MARK: - The rest

    func cancel(_ id: UInt64) -> [UInt8] { message(21, id: id) }
    func reject() -> [UInt8] { message(22) }
    func filter(_ rules: String) -> [UInt8] { message(23, Array(rules.utf8) + [0]) }
    func acknowledgeDisconnect() -> [UInt8] { message(24) }

    // MARK: - Data

    /// - Parameter endpoint: 0x80 or 0 as the data's direction is, where it isn't given.
    func control(_ id: UInt64, _ setup: SetupPacket, _ data: [UInt8] = [], endpoint: UInt8? = nil) -> [UInt8] {
        let address = endpoint ?? (setup.bmRequestType & 0x80)
        let body: [UInt8] =
            [address, setup.bRequest, setup.bmRequestType, 0] + Self.little(setup.wValue)
            + Self.little(setup.wIndex) + Self.little(setup.wLength)
        return message(100, id: id, body + data)
    }

    func bulkIn(_ id: UInt64, _ count: Int, endpoint: UInt8 = 0x81, streamID: UInt32 = 0) -> [UInt8] {
        message(101, id: id, bulk(endpoint, count, streamID))
    }

    func bulkOut(_ id: UInt64, _ data: [UInt8], endpoint: UInt8 = 0x02, streamID: UInt32 = 0) -> [UInt8] {
        message(101, id: id, bulk(endpoint, data.count, streamID) + data)
    }

    private func bulk(_ endpoint: UInt8, _ count: Int, _ streamID: UInt32) -> [UInt8] {
        let high = capabilities.contains(.longBulk) ? Self.little(UInt16(truncatingIfNeeded: count >> 16)) : []
        return [endpoint, 0] + Self.little(UInt16(truncatingIfNeeded: count)) + Self.little(streamID) + high
    }

    func isochronousOut(_ data: [UInt8], endpoint: UInt8 = 0x04) -> [UInt8] {
        message(102, [endpoint, 0] + Self.little(UInt16(data.count)) + data)
    }

    func interruptOut(_ id: UInt64, _ data: [UInt8], endpoint: UInt8 = 0x06) -> [UInt8] {
        message(103, id: id, [endpoint, 0] + Self.little(UInt16(data.count)) + data)
    }
}

/// Bytes that differ.
func redirPattern(_ count: Int) -> [UInt8] { (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ $0 >> 8) } }
