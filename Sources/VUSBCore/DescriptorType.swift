// SPDX-License-Identifier: Apache-2.0

/// `bDescriptorType` (USB 3.2, table 9-6; class-specific ones are 0x20 and up).
package enum DescriptorType {
    package static let device: UInt8 = 0x01
    package static let configuration: UInt8 = 0x02
    package static let string: UInt8 = 0x03
    package static let interface: UInt8 = 0x04
    package static let endpoint: UInt8 = 0x05
    package static let deviceQualifier: UInt8 = 0x06
    package static let otherSpeedConfiguration: UInt8 = 0x07
    package static let interfacePower: UInt8 = 0x08
    package static let otg: UInt8 = 0x09
    package static let interfaceAssociation: UInt8 = 0x0b
    package static let bos: UInt8 = 0x0f
    package static let deviceCapability: UInt8 = 0x10
    package static let hid: UInt8 = 0x21
    package static let hidReport: UInt8 = 0x22
    package static let classSpecificInterface: UInt8 = 0x24
    package static let classSpecificEndpoint: UInt8 = 0x25
    package static let endpointCompanion: UInt8 = 0x30
    package static let isochronousEndpointCompanion: UInt8 = 0x31
}
