// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// How far an OP_REP_DEVLIST has come, which is cut anywhere.
struct USBIPListReader {
    private enum Awaited {
        case header
        case record
        /// So many more of the device that was told of.
        case interfaces(Int)
    }

    /// A record of the list, whether it can be or not.
    private struct Entry {
        let busID: [UInt8]
        let interfaceCount: Int
        let record: Result<USBIPImportRecord, USBIPServerFault>
        var interfaces: [USBIPInterfaceClass] = []

        init(_ bytes: RawSpan) {
            busID = USBIPImportRecord.busID(of: bytes)
            interfaceCount = USBIPImportRecord.interfaceCount(of: bytes)
            record = Result { () throws(USBIPServerFault) in try USBIPImportRecord(bytes) }
        }
    }

    /// Of one server: V7 of Imports.md.
    static let maximumDevices: UInt32 = 1024
    /// Of a device: what it has more is of no interest to who looks at the list.
    private static let keptInterfaces = 8

    private var scratch = USBIPScratch()
    private var awaited = Awaited.header
    private var remaining: UInt32 = 0
    private var entry: Entry?
    private var list = USBIPOfferList()

    /// - Returns: all, once they're there.
    mutating func take(_ bytes: RawSpan) throws(USBIPServerFault) -> USBIPOfferList? {
        var position = 0
        while true {
            switch awaited {
            case .header:
                guard try takeHeader(bytes, &position) else { return nil }
            case .record:
                guard remaining > 0 else { return list }
                guard takeRecord(bytes, &position) else { return nil }
            case .interfaces(let count):
                guard takeInterface(bytes, &position, remaining: count - 1) else { return nil }
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

    private mutating func takeRecord(_ bytes: RawSpan, _ position: inout Int) -> Bool {
        let found = scratch.whole(USBIPNumbers.recordBytes, of: bytes, at: &position) { bytes in Entry(bytes) }
        guard let found else { return false }
        remaining -= 1
        entry = found
        expect(found.interfaceCount)
        return true
    }

    private mutating func takeInterface(_ bytes: RawSpan, _ position: inout Int, remaining: Int) -> Bool {
        let found = scratch.whole(4, of: bytes, at: &position) { bytes in
            USBIPInterfaceClass(bytes.byte(at: 0), bytes.byte(at: 1), bytes.byte(at: 2))
        }
        guard let found else { return false }
        if let count = entry?.interfaces.count, count < Self.keptInterfaces { entry?.interfaces.append(found) }
        expect(remaining)
        return true
    }

    private mutating func expect(_ interfaces: Int) {
        guard interfaces == 0 else {
            awaited = .interfaces(interfaces)
            return
        }
        awaited = .record
        if let entry = entry.take() { add(entry) }
    }

    private mutating func add(_ entry: Entry) {
        let busID = String(decoding: entry.busID, as: UTF8.self)
        switch entry.record {
        case .failure(let fault): list.leftOut.append(USBIPOfferList.LeftOut(busID: busID, reason: "\(fault)"))
        case .success where !USBIPRemote.isBusID(busID):
            let reason = busID.isEmpty ? "it has no busid" : "its busid isn't one that can be asked for"
            list.leftOut.append(USBIPOfferList.LeftOut(busID: busID, reason: reason))
        case .success(let record):
            list.offers.append(
                USBIPOffer(
                    busID: busID, vendorID: record.vendorID, productID: record.productID, speed: record.speed,
                    deviceClass: record.deviceClass, interfaces: entry.interfaces))
        }
    }
}
