// SPDX-License-Identifier: Apache-2.0

/// What a peer asks for before it has a device.
enum USBIPRequest: Equatable {
    case list
    /// The bytes of the busid before its end: any.
    case importDevice(busID: [UInt8])

    /// Bytes of a request that begins with these eight. What `status` says has no meaning.
    static func byteCount(_ bytes: RawSpan) throws(USBIPViolation) -> Int {
        let version = bytes.bigEndianHalf(at: 0)
        guard version == USBIPNumbers.version else { throw .version(version) }
        switch bytes.bigEndianHalf(at: 2) {
        case USBIPNumbers.requestList: return USBIPNumbers.operationBytes
        case USBIPNumbers.requestImport: return USBIPNumbers.operationBytes + USBIPNumbers.busIDBytes
        case let code: throw .operation(code)
        }
    }

    /// - Parameter bytes: as many as `byteCount` says.
    init(_ bytes: RawSpan) throws(USBIPViolation) {
        guard try Self.byteCount(bytes) > USBIPNumbers.operationBytes else {
            self = .list
            return
        }
        var busID: [UInt8] = []
        for offset in 0..<USBIPNumbers.busIDBytes {
            let byte = bytes.byte(at: USBIPNumbers.operationBytes + offset)
            guard byte != 0 else {
                self = .importDevice(busID: busID)
                return
            }
            busID.append(byte)
        }
        throw .busID
    }
}

/// How far a connection has come with its request, which is cut anywhere.
struct USBIPRequestReader {
    private var bytes: [UInt8] = []

    /// - Returns: the request, once it's whole, and how many bytes were taken for it.
    mutating func take(_ next: RawSpan) throws(USBIPViolation) -> (USBIPRequest?, Int) {
        var position = 0
        while position < next.byteCount {
            bytes.append(next.byte(at: position))
            position += 1
            // SAFETY: views of bytes, for the calls.
            guard bytes.count >= USBIPNumbers.operationBytes,
                bytes.count >= (try USBIPRequest.byteCount(unsafe bytes.span.bytes))
            else { continue }
            return (try USBIPRequest(unsafe bytes.span.bytes), position)
        }
        return (nil, position)
    }
}
