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
        let end = USBIPNumbers.pathBytes + USBIPNumbers.busIDBytes
        busID = Array((USBIPNumbers.pathBytes..<end).map { bytes.byte(at: $0) }.prefix { $0 != 0 })
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
        interfaceCount = Int(bytes.byte(at: end + 23))
    }
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

/// How far an OP_REP_DEVLIST has come, which is cut anywhere.
struct USBIPListReader {
    private enum Awaited {
        case header
        case record
        case interfaces(Int)
    }

    /// Of one server: V7 of Imports.md.
    static let maximumDevices: UInt32 = 1024

    private var scratch = USBIPScratch()
    private var awaited = Awaited.header
    private var remaining: UInt32 = 0
    private var offers: [USBIPOffer] = []

    /// - Returns: all, once they're there.
    mutating func take(_ bytes: RawSpan) throws(USBIPServerFault) -> [USBIPOffer]? {
        var position = 0
        while true {
            switch awaited {
            case .header:
                guard try takeHeader(bytes, &position) else { return nil }
            case .record:
                guard remaining > 0 else { return offers }
                guard try takeRecord(bytes, &position) else { return nil }
            case .interfaces(let count):
                let skipped: Void? = scratch.whole(4, of: bytes, at: &position) { _ in }
                guard skipped != nil else { return nil }
                awaited = count > 1 ? .interfaces(count - 1) : .record
            }
        }
    }

    private mutating func takeHeader(_ bytes: RawSpan, _ position: inout Int) throws(USBIPServerFault) -> Bool {
        let count = try scratch.whole(USBIPNumbers.operationBytes + 4, of: bytes, at: &position) {
            bytes throws(USBIPServerFault) in
            try USBIPOperationHeader.check(bytes, code: USBIPNumbers.replyList)
            return bytes.bigEndian(at: USBIPNumbers.operationBytes)
        }
        guard let count else { return false }
        guard count <= Self.maximumDevices else { throw .deviceCount(count) }
        remaining = count
        awaited = .record
        return true
    }

    private mutating func takeRecord(_ bytes: RawSpan, _ position: inout Int) throws(USBIPServerFault) -> Bool {
        let record = try scratch.whole(USBIPNumbers.recordBytes, of: bytes, at: &position) {
            bytes throws(USBIPServerFault) in try USBIPImportRecord(bytes)
        }
        guard let record else { return false }
        remaining -= 1
        awaited = record.interfaceCount > 0 ? .interfaces(record.interfaceCount) : .record
        // One that can't be asked for isn't offered.
        guard let busID = String(validating: record.busID, as: UTF8.self), USBIPRemote.isBusID(busID) else {
            return true
        }
        offers.append(
            USBIPOffer(
                busID: busID, vendorID: record.vendorID, productID: record.productID, speed: record.speed,
                deviceClass: record.deviceClass))
        return true
    }
}
