// SPDX-License-Identifier: Apache-2.0

/// What a guest's side hears of a host.
enum RedirHeard: Equatable, Sendable {
    struct Connect: Equatable, Sendable {
        var speed: UInt8
        var deviceClass: UInt8
        var vendor: UInt16
        var product: UInt16
        var version: UInt16
    }

    struct Interface: Equatable, Sendable {
        var number: UInt8
        var interfaceClass: UInt8
    }

    struct Endpoint: Equatable, Sendable {
        var address: UInt8
        var type: UInt8
        var interval: UInt8 = 0
        var interface: UInt8 = 0
        var packetSize: UInt16 = 0
        var streams: UInt32 = 0
    }

    enum PacketKind: Equatable, Sendable {
        case control, bulk, isochronous, interrupt, buffered
    }

    /// The answer to a transfer, or what a stream received.
    struct Packet: Equatable, Sendable {
        var kind: PacketKind
        var id: UInt64
        var endpoint: UInt8
        var status: RedirWord = .success
        var length: Int
        var streamID: UInt32 = 0
        /// `bRequest`, of a control transfer.
        var request: UInt8 = 0
        var data: [UInt8] = []
    }

    case hello(String)
    case connect(Connect)
    case disconnect
    case interfaces([Interface])
    /// Those that there are, endpoint 0 among them.
    case endpoints([Endpoint])
    case configuration(id: UInt64, RedirWord, value: UInt8)
    case interface(id: UInt64, RedirWord, number: UInt8, alternate: UInt8)
    case isochronousStatus(UInt8, RedirWord)
    case interruptStatus(UInt8, RedirWord)
    case bulkStatus(UInt8, RedirWord, streamID: UInt32)
    case streams(id: UInt64, RedirWord, endpoints: UInt32, count: UInt32)
    case packet(Packet)
    /// libusbredirparser found a message that it takes for malformed.
    case complaint(String)
    /// The connection has ended.
    case closed
}

/// A status of the protocol, by its number there.
enum RedirWord: UInt8, Sendable {
    case success, cancelled, invalid, ioError, stall, timeout, babble
    case unknown = 255

    init(_ value: UInt8) { self = RedirWord(rawValue: value) ?? .unknown }
}
