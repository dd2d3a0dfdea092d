// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// What the root hubs of a guest's buses say of themselves: the same as Linux' own of USB 2.0, by whose vendor and
/// product programs know them. They are only to be looked at.
enum RootHub {
    static let deviceNumber = 1
    static let configurationValue: UInt8 = 1

    /// Bit 0 stands for the hub itself, one bit a port (USB 2.0, 11.12.4).
    private static let statusBytes = UInt8((SysfsDevice.ports + 1 + 7) / 8)

    static let bytes: [UInt8] = [
        // Device: USB 2.0, class hub with one translator, 64 bytes a packet, 1d6b:0002, strings 3, 2 and 1.
        0x12, 0x01, 0x00, 0x02, 0x09, 0x00, 0x01, 0x40, 0x6b, 0x1d, 0x02, 0x00, 0x00, 0x01, 0x03, 0x02, 0x01, 0x01,
        // Configuration 1: 25 bytes, one interface, self-powered, wakes the host, no power from elsewhere.
        0x09, 0x02, 0x19, 0x00, 0x01, configurationValue, 0x00, 0xe0, 0x00,
        // Interface 0, one endpoint, class hub.
        0x09, 0x04, 0x00, 0x00, 0x01, 0x09, 0x00, 0x00, 0x00,
        // Endpoint 0x81, interrupt, every 256 ms.
        0x07, 0x05, 0x81, 0x03, statusBytes, 0x00, 0x0c,
    ]

    static let descriptors = Descriptors(
        device: DeviceDescriptor(
            bcdUSB: 0x0200, bDeviceClass: 9, bDeviceSubClass: 0, bDeviceProtocol: 1, bMaxPacketSize0: 64,
            idVendor: 0x1d6b, idProduct: 0x0002, bcdDevice: 0x0100, iManufacturer: 3, iProduct: 2, iSerialNumber: 1,
            bNumConfigurations: 1
        ),
        configurations: [
            ConfigurationDescriptor(
                bConfigurationValue: configurationValue, iConfiguration: 0, bmAttributes: 0xe0, bMaxPower: 0,
                interfaces: [
                    InterfaceDescriptor(
                        bInterfaceNumber: InterfaceNumber(rawValue: 0), bAlternateSetting: 0, bInterfaceClass: 9,
                        bInterfaceSubClass: 0, bInterfaceProtocol: 0, iInterface: 0,
                        endpoints: [
                            EndpointDescriptor(
                                bEndpointAddress: EndpointAddress(rawValue: 0x81), bmAttributes: 3,
                                wMaxPacketSize: UInt16(statusBytes), bInterval: 12
                            )
                        ]
                    )
                ]
            )
        ],
        bytes: bytes
    )

    static let settings = ActiveSettings(descriptors, configurationValue: configurationValue)

    static func record(guest: String) -> DeviceRecord {
        DeviceRecord(
            id: DeviceID("root-hub"),
            source: "vusb",
            speed: .high,
            descriptors: descriptors,
            manufacturer: "vusb",
            product: "vusb host controller",
            serial: guest
        )
    }
}
