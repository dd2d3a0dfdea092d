// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBFileSystem

/// Formats are those of drivers/usb/core/sysfs.c.
@Suite("Attribute files")
struct DeviceAttributeTests {
    private func view(_ fixture: String, speed: DeviceSpeed, configuration: UInt8? = 1) throws -> DeviceView {
        let record = DeviceRecord(
            id: DeviceID("1-2"),
            source: "libusb",
            speed: speed,
            descriptors: try Descriptors(parsing: try Fixture.bytes(fixture))
        )
        return DeviceView(record: record, configurationValue: configuration)
    }

    private func text(_ view: DeviceView, _ attribute: DeviceAttribute) -> String? {
        view.bytes(of: attribute).map { String(decoding: $0, as: UTF8.self) }
    }

    @Test("of a high-speed device read as in sysfs")
    func highSpeed() throws {
        let view = try view("gadget-zero-high-speed.hex", speed: .high)
        let expected: [DeviceAttribute: String] = [
            .idVendor: "0525\n", .idProduct: "a4a0\n", .bcdDevice: "0601\n", .bDeviceClass: "ff\n",
            .bDeviceSubClass: "00\n", .bDeviceProtocol: "00\n", .bMaxPacketSize0: "64\n", .bNumConfigurations: "1\n",
            .bConfigurationValue: "1\n", .bNumInterfaces: " 1\n", .bmAttributes: "80\n", .bMaxPower: "2mA\n",
            .version: " 2.00\n", .speed: "480\n",
        ]
        for (attribute, wanted) in expected { #expect(text(view, attribute) == wanted, "\(attribute.name)") }
    }

    @Test("of a SuperSpeed device count power in units of 8 mA")
    func superSpeed() throws {
        let view = try view("mass-storage-super-speed.hex", speed: .super)
        #expect(text(view, .bMaxPower) == "112mA\n")
        #expect(text(view, .version) == " 3.00\n")
        #expect(text(view, .bMaxPacketSize0) == "9\n")
        #expect(text(view, .speed) == "5000\n")
    }

    @Test("are empty where no configuration is in force")
    func unconfigured() throws {
        let view = try view("gadget-zero-high-speed.hex", speed: .high, configuration: 0)
        for attribute: DeviceAttribute in [.bConfigurationValue, .bNumInterfaces, .bmAttributes, .bMaxPower] {
            #expect(view.bytes(of: attribute) == [], "\(attribute.name)")
        }
    }

    @Test("that the device hasn't have no file")
    func absent() throws {
        let view = try view("gadget-zero-high-speed.hex", speed: .high, configuration: nil)
        let absent: [DeviceAttribute] = [
            .manufacturer, .product, .serial, .busnum, .devnum, .dev, .state, .guest, .bConfigurationValue,
        ]
        for attribute in absent { #expect(view.bytes(of: attribute) == nil, "\(attribute.name)") }
    }

    @Test("descriptors are the device's bytes, unchanged")
    func descriptors() throws {
        let view = try view("gadget-zero-high-speed.hex", speed: .high)
        let bytes = try Fixture.bytes("gadget-zero-high-speed.hex")
        #expect(view.bytes(of: .descriptors) == bytes)
    }

    @Test("are found by the names that they have")
    func names() {
        for attribute in DeviceAttribute.allCases { #expect(DeviceAttribute(name: attribute.name) == attribute) }
        #expect(DeviceAttribute(name: "idvendor") == nil)
        #expect(DeviceAttribute(name: "") == nil)
    }
}
