// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBHost

@Suite struct HostInventoryTests {
    private func device(_ name: String, number: Int, serial: String? = nil) throws -> SysfsFinding {
        .device(
            DeviceRecord(
                id: DeviceID(name),
                source: "libusb",
                speed: .high,
                descriptors: try SampleDevice.zero(),
                serial: serial,
                busNumber: 1,
                deviceNumber: number
            )
        )
    }

    private func names(_ events: [DeviceEvent]) -> [String] {
        events.map { event in
            switch event {
            case .arrived(let record): "arrived \(record.id)"
            case .left(let id): "left \(id)"
            case .refused(let id, let reason): "refused \(id) \(reason)"
            }
        }
    }

    @Test func `a device seen twice arrives once, also when its strings came later`() throws {
        var inventory = HostInventory()
        #expect(names(inventory.update(try device("1-1", number: 2))) == ["arrived 1-1"])
        #expect(names(inventory.update(try device("1-1", number: 2, serial: "S"))) == [])
    }

    @Test func `another device on the same port is a departure and an arrival`() throws {
        var inventory = HostInventory()
        _ = inventory.update(try device("1-1", number: 2))
        #expect(names(inventory.update(try device("1-1", number: 3))) == ["left 1-1", "arrived 1-1"])
    }

    @Test func `a late message doesn't take away the next device on the port`() throws {
        var inventory = HostInventory()
        _ = inventory.update(try device("1-1", number: 3))
        #expect(names(inventory.remove(DeviceID("1-1"), bus: 1, device: 2)) == [])
        #expect(names(inventory.remove(DeviceID("1-1"), bus: 1, device: 3)) == ["left 1-1"])
        #expect(names(inventory.remove(DeviceID("1-1"), bus: 1, device: 3)) == [])
        #expect(inventory.count == 0)
    }

    @Test func `a new look at the bus tells what left and what came`() throws {
        var inventory = HostInventory()
        for name in ["1-1", "1-2", "1-4"] { _ = inventory.update(try device(name, number: 2)) }
        let events = inventory.replace(
            with: [try device("1-2", number: 2), try device("1-3", number: 4)],
            // 1-4 is in the middle of a reset.
            present: [DeviceID("1-2"), DeviceID("1-3"), DeviceID("1-4")]
        )
        #expect(names(events) == ["left 1-1", "arrived 1-3"])
    }

    @Test func `a refusal is told once, and again when the reason changes`() throws {
        var inventory = HostInventory()
        let id = DeviceID("1-1")
        #expect(names(inventory.update(.refused(id, bus: 1, device: 2, reason: "a"))) == ["refused 1-1 a"])
        #expect(names(inventory.update(.refused(id, bus: 1, device: 2, reason: "a"))) == [])
        #expect(names(inventory.update(.refused(id, bus: 1, device: 2, reason: "b"))) == ["left 1-1", "refused 1-1 b"])
    }
}
