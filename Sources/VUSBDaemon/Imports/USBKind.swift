// SPDX-License-Identifier: Apache-2.0

internal import VUSBIP

/// What a device is by its classes (USB-IF's list of defined class codes).
enum USBKind {
    /// The device's own class; where that leaves it to the interfaces, the first one's that says something.
    static func text(_ offer: USBIPOffer) -> String? {
        text(offer.deviceClass, 0, 0)
            ?? offer.interfaces.lazy.compactMap { text($0.number, $0.subclass, $0.protocolNumber) }.first
            ?? (offer.interfaces.contains { $0.number == 0xff } || offer.deviceClass == 0xff ? "vendor's own" : nil)
    }

    /// Nil for what says nothing: 00 and ef leave it to the interfaces, ff is the vendor's.
    private static func text(_ number: UInt8, _ subclass: UInt8, _ protocolNumber: UInt8) -> String? {
        switch (number, subclass, protocolNumber) {
        case (0x01, _, _): "audio"
        case (0x02, _, _), (0x0a, _, _): "communication"
        case (0x03, 1, 1): "keyboard"
        case (0x03, 1, 2): "mouse"
        case (0x03, _, _): "human interface"
        case (0x05, _, _): "physical interface"
        case (0x06, _, _): "camera"
        case (0x07, _, _): "printer"
        case (0x08, _, _): "mass storage"
        case (0x09, _, _): "hub"
        case (0x0b, _, _): "smart card"
        case (0x0e, _, _): "video"
        case (0x0f, _, _): "healthcare"
        case (0x10, _, _): "audio and video"
        case (0xdc, _, _): "diagnostic"
        case (0xe0, 1, 1): "Bluetooth"
        case (0xe0, _, _): "wireless"
        case (0xfe, 1, _): "firmware upgrade"
        default: nil
        }
    }
}
