// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// What a peer says, as the protocol has it (usb-redirection-protocol.txt, 0.7). Numbers are as they came: nothing is
/// checked but what libusbredirparser checks.
enum RedirMessage: ~Copyable {
    case reset
    case setConfiguration(id: UInt64, value: UInt8)
    case getConfiguration(id: UInt64)
    case setInterface(id: UInt64, interface: UInt8, alternate: UInt8)
    case getInterface(id: UInt64, interface: UInt8)
    case startStream(RedirStreamWish)
    case stopStream(RedirStream.Kind, endpoint: UInt8, streamID: UInt32)
    /// `endpoints` has a bit for each, OUT in the lower half.
    case allocateStreams(id: UInt64, endpoints: UInt32, count: UInt32)
    case freeStreams(id: UInt64, endpoints: UInt32)
    case cancel(id: UInt64)
    /// The guest won't have the device.
    case reject
    /// The guest takes only such devices.
    case filter(RedirFilter)
    case disconnectAcknowledged
    /// A transfer, with its data where it goes out.
    case transfer(RedirTransfer, TransferBuffer?)
    /// A packet for an isochronous OUT stream.
    case isochronous(endpoint: UInt8, length: Int, TransferBuffer?)
}

/// A stream of transfers that the host keeps going by itself.
struct RedirStreamWish: Equatable {
    var kind: RedirStream.Kind
    var endpoint: UInt8
    /// Isochronous only.
    var packetsPerURB = 0
    /// Isochronous and bulk only.
    var transfers = 0
    /// Bulk only.
    var bytesPerTransfer = 0
    var streamID: UInt32 = 0
}

/// A transfer that is answered once.
struct RedirTransfer: Equatable {
    enum Kind: Equatable {
        case control(SetupPacket)
        case bulk(streamID: UInt32)
        case interrupt
    }

    var id: UInt64
    var kind: Kind
    /// As the peer wrote it, and reads it again in the answer.
    var endpoint: UInt8
    /// Bytes to move.
    var length: Int
}
