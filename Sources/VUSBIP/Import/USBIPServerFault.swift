// SPDX-License-Identifier: Apache-2.0

/// What a server said that isn't the protocol, or that ends a try: the rows V1 to V7 of Imports.md.
enum USBIPServerFault: Error, Equatable {
    case version(UInt16)
    case operation(UInt16)
    /// One that has a name or not.
    case refused(UInt32)
    case busID
    case deviceNumber(bus: UInt32, device: UInt32)
    case speed(UInt32)
    case deviceCount(UInt32)
    case command(UInt32)
    case seqnum(UInt32)
    case length(UInt32, of: Int)
    case packetCount(UInt32, of: Int)
    case packet(UInt32, of: UInt32)
    case packetSum(Int, of: Int)
}

extension USBIPServerFault: CustomStringConvertible {
    var description: String {
        switch self {
        case .version(let version): "it speaks version \(version) of the protocol, not 273 (1.1.1)"
        case .operation(let code): "it answers another operation, \(code)"
        case .refused(let status):
            USBIPOperationStatus(rawValue: status)?.text ?? "the server refuses it with the status \(status)"
        case .busID: "it gives another device than asked for"
        case .deviceNumber(let bus, let device): "it says bus \(bus), device \(device), which can't be"
        case .speed(let speed): "it says speed \(speed), which can't be"
        case .deviceCount(let count): "it says that it has \(count) devices"
        case .command(let command): "it sent an answer of the kind \(command)"
        case .seqnum(let seqnum): "it answered \(seqnum), which nobody has asked"
        case .length(let length, let asked): "it answered with \(length) bytes where \(asked) were asked for"
        case .packetCount(let count, let asked): "it answered with \(count) packets where \(asked) were asked for"
        case .packet(let length, let asked):
            "it answered with a packet of \(length) bytes where \(asked) were asked for"
        case .packetSum(let sum, let length): "it answered with packets of \(sum) bytes in a transfer of \(length)"
        }
    }
}
