// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBHost

@Suite struct SysfsEnumeratorTests {
    let tree: FixtureTree
    var enumerator: SysfsEnumerator { SysfsEnumerator(root: tree.paths.sysfsDevices) }

    init() throws { tree = try FixtureTree() }

    private func reason(_ name: String) -> String? {
        guard case .refused(_, _, _, let reason)? = enumerator.finding(named: name) else { return nil }
        return reason
    }

    @Test func `a good device is found with all that sysfs says of it`() throws {
        try tree.addDevice("1-2.3", bus: 1, device: 7, speed: "480")
        try tree.write("Maker\n", to: "sys/1-2.3/manufacturer")
        try tree.write([0x41, 0xff, 0x42, 0x0a], to: "sys/1-2.3/serial")

        let expected = DeviceRecord(
            id: DeviceID("1-2.3"),
            source: "libusb",
            speed: .high,
            descriptors: try SampleDevice.zero(),
            manufacturer: "Maker",
            product: nil,
            serial: "A\u{fffd}B",
            busNumber: 1,
            deviceNumber: 7
        )
        #expect(enumerator.findings() == [.device(expected)])
    }

    @Test func `a host without USB has no list at all`() {
        #expect(enumerator.findings() == nil)
    }

    @Test func `hubs, root hubs and interfaces are passed over`() throws {
        let hub = DescriptorBytes.device(deviceClass: 9) + Array(SampleDevice.zeroBytes[18...])
        try tree.addDevice("usb1", descriptors: hub, device: 1)
        try tree.addDevice("1-1", descriptors: hub, device: 2)
        try tree.addDevice("1-1.1", device: 3)
        try tree.write("0", to: "sys/1-1.1:1.0/bInterfaceNumber")

        #expect(enumerator.findings()?.map(\.id) == [DeviceID("1-1.1")])
    }

    @Test(arguments: [
        ([UInt8](SampleDevice.zeroBytes[..<30]), "truncated"),
        (DescriptorBytes.device() + [0, 2] + SampleDevice.zeroBytes[20...], "bLength 0"),
        (DescriptorBytes.device() + [9, 2, 0xff, 0xff] + SampleDevice.zeroBytes[22...], "wTotalLength past the end"),
        ([], "empty"),
    ])
    func `a device that lies is refused at a byte, and the others are found`(bytes: [UInt8], what: String) throws {
        try tree.addDevice("1-1", descriptors: bytes, device: 2)
        try tree.addDevice("1-2", device: 3)

        #expect(reason("1-1")?.contains("at byte ") == true, "\(what)")
        #expect(enumerator.findings()?.count == 2)
        guard case .device? = enumerator.finding(named: "1-2") else {
            Issue.record("the honest device isn't found")
            return
        }
    }

    @Test func `a refusal takes less than 100 ms with the longest lie there can be`() throws {
        // 64 KiB of two-byte descriptors: as many steps as a parser can be made to take.
        let body = [[UInt8]](repeating: [2, 0xff], count: 32_000)
        try tree.addDevice(
            "1-1",
            descriptors: DescriptorBytes.device() + DescriptorBytes.configuration(body, interfaces: 3)
        )

        let duration = ContinuousClock().measure { _ = enumerator.findings() }

        #expect(reason("1-1") != nil)
        #expect(duration < .milliseconds(100))
    }

    @Test func `a speed that USB doesn't have is refused`() throws {
        try tree.addDevice("1-1", speed: "9600")
        #expect(reason("1-1")?.contains("'9600'") == true)
    }

    @Test(arguments: ["busnum", "devnum", "speed"])
    func `a device that isn't wholly there yet is passed over`(attribute: String) throws {
        try tree.addDevice("1-1")
        tree.remove("sys/1-1/\(attribute)")
        #expect(enumerator.finding(named: "1-1") == nil)
    }

    @Test(arguments: [("devnum", "0"), ("speed", "unknown")])
    func `a device in the middle of a reset is passed over`(attribute: String, value: String) throws {
        try tree.addDevice("1-1")
        try tree.write(value, to: "sys/1-1/\(attribute)")
        #expect(enumerator.finding(named: "1-1") == nil)
    }

    @Test func `a device without descriptors is refused, with the file named`() throws {
        try tree.addDevice("1-1")
        tree.remove("sys/1-1/descriptors")
        #expect(reason("1-1")?.contains("1-1/descriptors") == true)
    }

    @Test(arguments: ["", "1", "-1", "1-", "usb1", "1-1:1.0", "1-1..2", "../1-1", "1-1/..", "1-a", "1-2.3.", "1-2-3"])
    func `what isn't a name of a device isn't looked up`(name: String) {
        #expect(!SysfsEnumerator.isDeviceName(name))
    }
}
