// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// A device as a server tells of it: the other side of `USBIPDeviceRecord`.
struct USBIPImportRecord: Equatable {
    let busID: [UInt8]
    let busNumber: UInt16
    let deviceNumber: UInt16
    let speed: DeviceSpeed
    let vendorID: UInt16
    let productID: UInt16
    let deviceClass: UInt8
    let interfaceCount: Int

    /// `devid` of what is said to it.
    var deviceID: UInt32 { UInt32(busNumber) << 16 | UInt32(deviceNumber) }

    /// - Parameter bytes: 312.
    init(_ bytes: RawSpan) throws(USBIPServerFault) {
        let end = Self.numbers
        busID = Self.busID(of: bytes)
        let (bus, device) = (bytes.bigEndian(at: end), bytes.bigEndian(at: end + 4))
        guard let busNumber = UInt16(exactly: bus), let deviceNumber = UInt16(exactly: device) else {
            throw .deviceNumber(bus: bus, device: device)
        }
        self.busNumber = busNumber
        self.deviceNumber = deviceNumber
        guard let speed = DeviceSpeed(usbipNumber: bytes.bigEndian(at: end + 8)) else {
            throw .speed(bytes.bigEndian(at: end + 8))
        }
        self.speed = speed
        vendorID = bytes.bigEndianHalf(at: end + 12)
        productID = bytes.bigEndianHalf(at: end + 14)
        deviceClass = bytes.byte(at: end + 18)
        interfaceCount = Self.interfaceCount(of: bytes)
    }

    /// Where the device's numbers begin.
    private static let numbers = USBIPNumbers.pathBytes + USBIPNumbers.busIDBytes

    /// Also of a record that can't be.
    static func busID(of bytes: RawSpan) -> [UInt8] {
        Array((USBIPNumbers.pathBytes..<numbers).map { bytes.byte(at: $0) }.prefix { $0 != 0 })
    }

    static func interfaceCount(of bytes: RawSpan) -> Int { Int(bytes.byte(at: numbers + 23)) }
}

/// The eight bytes that an answer to an operation begins with.
enum USBIPOperationHeader {
    static func check(_ bytes: RawSpan, code: UInt16) throws(USBIPServerFault) {
        let version = bytes.bigEndianHalf(at: 0)
        guard version == USBIPNumbers.version else { throw .version(version) }
        guard bytes.bigEndianHalf(at: 2) == code else { throw .operation(bytes.bigEndianHalf(at: 2)) }
        let status = bytes.bigEndian(at: 4)
        guard status == USBIPOperationStatus.success.rawValue else { throw .refused(status) }
    }
}

/// How far an OP_REP_IMPORT has come, which is cut anywhere.
struct USBIPImportReader {
    private let busID: [UInt8]
    private var scratch = USBIPScratch()
    private var isAccepted = false

    init(busID: String) { self.busID = Array(busID.utf8) }

    /// - Returns: the device, once it's whole.
    mutating func take(_ bytes: RawSpan, _ position: inout Int) throws(USBIPServerFault) -> USBIPImportRecord? {
        if !isAccepted {
            let header: Void? = try scratch.whole(USBIPNumbers.operationBytes, of: bytes, at: &position) {
                bytes throws(USBIPServerFault) in
                try USBIPOperationHeader.check(bytes, code: USBIPNumbers.replyImport)
            }
            guard header != nil else { return nil }
            isAccepted = true
        }
        let record = try scratch.whole(USBIPNumbers.recordBytes, of: bytes, at: &position) {
            bytes throws(USBIPServerFault) in try USBIPImportRecord(bytes)
        }
        guard let record else { return nil }
        guard record.busID == busID else { throw .busID }
        return record
    }
}
