// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// `struct usbdevfs_urb` as a caller submits it.
struct UsbfsURB: Equatable, Sendable {
    /// As usbfs numbers them.
    enum Kind: UInt8, Sendable {
        case isochronous = 0
        case interrupt = 1
        case control = 2
        case bulk = 3
    }

    var kind: Kind
    var endpoint: UInt8
    var flags: UInt32
    var buffer: UInt64
    var bufferLength: UInt32
    /// `number_of_packets`, or `stream_id`.
    var packetsOrStream: UInt32
    var signal: UInt32

    var isIn: Bool { endpoint & 0x80 != 0 }
    func has(_ flag: UInt32) -> Bool { flags & flag != 0 }

    /// Nil for a type that there isn't. The span has a whole structure.
    init?(_ bytes: Span<UInt8>, _ layout: UsbfsLayout) {
        guard let kind = Kind(rawValue: bytes[0]) else { return nil }
        let length = layout.urbLengthOffset
        self.kind = kind
        endpoint = bytes[1]
        flags = bytes.u32(8)
        buffer = bytes.pointer(layout.urbBufferOffset, layout)
        bufferLength = bytes.u32(length)
        packetsOrStream = bytes.u32(length + 12)
        signal = bytes.u32(length + 20)
    }
}

/// What an ioctl wants, once all that it needs of its caller's memory is there.
enum UsbfsRequest: Equatable, Sendable {
    /// OUT data lie in the input from `data` on, for `wLength` bytes.
    case control(SetupPacket, timeout: UInt32, data: Int)
    /// As above.
    case bulk(endpoint: UInt32, length: UInt32, timeout: UInt32, data: Int)
    /// `packets` and `data` are where these lie in the input; of a control URB `setup` is what its buffer began with.
    case submit(UsbfsURB, setup: SetupPacket?, packets: Int, data: Int)
    /// A SUBMITURB with more OUT data than a round can carry: those of this round lie in the input from `head` on, which
    /// in the first of them is its end. The URB and its packets are in front of them each time.
    case collect(UsbfsURB, head: Int)
    case discard
    /// In the first round `offer` is 0, in the second what `UsbfsSession` asked for.
    case reap(waits: Bool, offer: Int)
    case resetEndpoint(UInt32)
    case clearHalt(UInt32)
    case setInterface(UInt32, alternate: UInt32)
    case setConfiguration(Int32)
    case getDriver(interface: UInt32)
    case disconnectSignal(UInt32)
    case claim(interface: UInt32)
    case release(interface: UInt32)
    case connectInfo
    case connectInfoEx(length: Int)
    case ioctl(interface: Int32, code: UInt32)
    case reset
    case port
    case getCapabilities
    case disconnectClaim(interface: UInt32, flags: UInt32, namesUsbfs: Bool)
    case allocateStreams(count: UInt32, endpoints: [UInt8])
    case freeStreams(endpoints: [UInt8])
    case dropPrivileges(mask: UInt32)
    case getSpeed
}
