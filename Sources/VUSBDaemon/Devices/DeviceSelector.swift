// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// How people name devices: a device id, `VID:PID`, or `VID:PID:SERIAL`. A serial may hold colons itself.
enum DeviceSelector: Hashable, Sendable {
    case id(DeviceID)
    case product(vendor: UInt16, product: UInt16, serial: String?)

    /// The longest that is understood; a serial has at most 126 characters.
    static let limit = 160

    /// Nil where the text can't name any device.
    init?(_ text: String) {
        guard !text.isEmpty, text.unicodeScalars.count <= Self.limit else { return nil }
        let fields = text.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
        if fields.count == 1 {
            guard text.unicodeScalars.allSatisfy(Self.isInID) else { return nil }
            self = .id(DeviceID(text))
            return
        }
        guard let vendor = Self.hexadecimal(fields[0]), let product = Self.hexadecimal(fields[1]) else { return nil }
        let serial = fields.count == 3 ? String(fields[2]) : nil
        guard serial != "" else { return nil }
        self = .product(vendor: vendor, product: product, serial: serial)
    }

    func matches(_ record: DeviceRecord) -> Bool {
        switch self {
        case .id(let id): record.id == id
        case .product(let vendor, let product, let serial):
            record.descriptors.device.idVendor == vendor && record.descriptors.device.idProduct == product
                && (serial == nil || serial == record.serial)
        }
    }

    private static func isInID(_ scalar: Unicode.Scalar) -> Bool {
        scalar.isASCII
            && (scalar.properties.isAlphabetic || ("0"..."9").contains(scalar) || "-._".unicodeScalars.contains(scalar))
    }

    private static func hexadecimal(_ digits: Substring) -> UInt16? {
        guard digits.utf8.count == 4, digits.allSatisfy({ $0.isASCII && $0.isHexDigit }) else { return nil }
        return UInt16(digits, radix: 16)
    }
}

extension DeviceSelector: CustomStringConvertible {
    var description: String {
        switch self {
        case .id(let id): id.rawValue
        case .product(let vendor, let product, let serial):
            hexadecimal4(vendor) + ":" + hexadecimal4(product) + (serial.map { ":" + $0 } ?? "")
        }
    }
}

/// Four digits, as `lsusb` prints them.
func hexadecimal4(_ value: UInt16) -> String {
    let digits = String(value, radix: 16)
    return String(repeating: "0", count: 4 - digits.count) + digits
}

func hexadecimal2(_ value: UInt8) -> String {
    let digits = String(value, radix: 16)
    return String(repeating: "0", count: 2 - digits.count) + digits
}
