// SPDX-License-Identifier: Apache-2.0

/// What a peer said that isn't the protocol, or that ends the connection: H1 to H6 and H8 of USBIP.md.
enum USBIPViolation: Error, Equatable {
    case version(UInt16)
    case operation(UInt16)
    case busID
    case command(UInt32)
    case direction(UInt32)
    case deviceID(UInt32)
    case length(UInt32)
    case packetCount(UInt32)
    case seqnum(UInt32)
    /// No violation: the peer has nothing more to say.
    case farewell
}

extension USBIPViolation: CustomStringConvertible {
    var description: String {
        switch self {
        case .version(let version): "version \(version) of the protocol, not 273 (1.1.1)"
        case .operation(let code): "an operation with the code \(code)"
        case .busID: "a busid without an end"
        case .command(let command): "a command with the number \(command)"
        case .direction(let direction): "the direction \(direction)"
        case .deviceID(let id): "a command for the device \(id), which it hasn't imported"
        case .length(let length): "a transfer of \(length) bytes"
        case .packetCount(let count): "a transfer of \(count) packets"
        case .seqnum(let seqnum): "the seqnum \(seqnum), which is in flight already"
        case .farewell: "its end"
        }
    }
}
