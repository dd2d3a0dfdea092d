// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// What is remembered of a device beyond its plug: enough to know it again.
struct DeviceIdentity: Codable, Hashable, Sendable {
    var id: String
    var idVendor: UInt16
    var idProduct: UInt16
    var serial: String?

    init(_ record: DeviceRecord) {
        id = record.id.rawValue
        idVendor = record.descriptors.device.idVendor
        idProduct = record.descriptors.device.idProduct
        serial = record.serial
    }

    /// The same device: by its serial wherever it is plugged in, without one by its port.
    func matches(_ other: DeviceIdentity) -> Bool {
        guard idVendor == other.idVendor, idProduct == other.idProduct, serial == other.serial else { return false }
        return serial != nil || id == other.id
    }

    /// Whether people mean it by this name.
    func isMeant(by selector: DeviceSelector) -> Bool {
        switch selector {
        case .id(let id): self.id == id.rawValue
        case .product(let vendor, let product, let serial):
            idVendor == vendor && idProduct == product && (serial == nil || serial == self.serial)
        }
    }

    func matches(_ record: DeviceRecord) -> Bool { matches(DeviceIdentity(record)) }
}

extension DeviceIdentity: CustomStringConvertible {
    var description: String {
        "\(id) (\(hexadecimal4(idVendor)):\(hexadecimal4(idProduct))" + (serial.map { ":" + $0 } ?? "") + ")"
    }
}
