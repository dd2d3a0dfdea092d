// SPDX-License-Identifier: Apache-2.0

internal import NIOCore
internal import VUSBCore

/// A device as OP_REP_DEVLIST and OP_REP_IMPORT tell of it.
struct USBIPDeviceRecord {
    let place: USBIPPlace
    let speed: DeviceSpeed
    let device: DeviceDescriptor
    let configurationValue: UInt8
    let interfaces: [InterfaceDescriptor]

    /// As the device is now.
    init(_ place: USBIPPlace, _ device: VirtualDevice) {
        self.place = place
        speed = device.speed
        self.device = device.descriptors.device
        let settings = device.settings
        configurationValue = settings.configurationValue
        let configuration = device.descriptors.configuration(value: settings.configurationValue)
        interfaces = Array((configuration?.alternateSettings(settings.alternates) ?? []).prefix(255))
    }

    /// OP_REP_IMPORT, with status 0.
    func appendImport(to buffer: inout ByteBuffer) {
        Self.append(USBIPNumbers.replyImport, .success, to: &buffer)
        append(to: &buffer)
    }

    static func append(_ code: UInt16, _ status: USBIPOperationStatus, to buffer: inout ByteBuffer) {
        buffer.writeMultipleIntegers(USBIPNumbers.version, code, status.rawValue)
    }

    /// OP_REP_DEVLIST.
    static func appendList(_ records: [USBIPDeviceRecord], to buffer: inout ByteBuffer) {
        append(USBIPNumbers.replyList, .success, to: &buffer)
        buffer.writeInteger(UInt32(records.count))
        for record in records {
            record.append(to: &buffer)
            for interface in record.interfaces {
                buffer.writeMultipleIntegers(
                    interface.bInterfaceClass, interface.bInterfaceSubClass, interface.bInterfaceProtocol, UInt8(0))
            }
        }
    }

    private func append(to buffer: inout ByteBuffer) {
        Self.append("/vusb/guests/\(place.guest)/devices/\(place.path)", USBIPNumbers.pathBytes, to: &buffer)
        Self.append(place.path, USBIPNumbers.busIDBytes, to: &buffer)
        buffer.writeMultipleIntegers(UInt32(place.busNumber), UInt32(place.deviceNumber), speed.usbipNumber)
        buffer.writeMultipleIntegers(device.idVendor, device.idProduct, device.bcdDevice)
        buffer.writeMultipleIntegers(device.bDeviceClass, device.bDeviceSubClass, device.bDeviceProtocol)
        buffer.writeMultipleIntegers(configurationValue, device.bNumConfigurations, UInt8(interfaces.count))
    }

    /// A text with at least one zero behind it.
    private static func append(_ text: String, _ count: Int, to buffer: inout ByteBuffer) {
        let bytes = text.utf8.prefix(count - 1)
        buffer.writeBytes(bytes)
        buffer.writeRepeatingByte(0, count: count - bytes.count)
    }
}
