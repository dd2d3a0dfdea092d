// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBControl
import VUSBCore
import VUSBTestSupport
import VUSBVMM

@testable import VUSBDaemon

/// Guests in mode `module`, on test machines.
extension Bench {
    static func guest(_ name: String, _ devices: [String] = [], policy: String? = nil) -> GuestSpec {
        GuestSpec(
            name: name, connector: "qemu", qmp: "/run/\(name)/qmp", agent: "/run/\(name)/agent",
            share: "virtiofs:vusb", policy: policy, devices: devices)
    }

    /// A machine `vm1`, declared as a guest, and these devices.
    static func withMachine(
        _ devices: [String] = [], lists: [String] = [], policy: String? = nil, store: MemoryStore = MemoryStore(),
        times: GuestTimes = Bench.times, _ machine: TestMachine = TestMachine("vm1")
    ) async throws -> (bench: Bench, machine: TestMachine) {
        let bench = try await Bench(store: store, machines: [machine], times: times)
        for device in devices { _ = try await bench.plane.plugIn(device) }
        _ = try await bench.plane.addGuest(guest(machine.name, lists, policy: policy))
        return (bench, machine)
    }

    /// As `withMachine`, with the guest loaded.
    static func withLoadedMachine(_ devices: [String] = [], lists: [String] = []) async throws
        -> (bench: Bench, machine: TestMachine)
    {
        let (bench, machine) = try await withMachine(devices, lists: lists)
        try await bench.load("vm1")
        return (bench, machine)
    }

    func loadFails(_ guest: String) async throws -> OperationInfo {
        let info = try await finish(await plane.load(guest, LoadRequest()))
        #expect(info.state == .failed)
        return info
    }

    /// The machine ends, and its monitor tells.
    func turnOff(_ machine: TestMachine, _ kind: VMMEvent.Kind = .off) {
        machine.turnOff()
        monitor.tell(kind, machine.name)
    }

    func start(_ machine: TestMachine) {
        machine.start()
        monitor.tell(.started, machine.name)
    }

    /// Waits for the guest to come into a state; it may have been there before.
    func state(_ text: String, of guest: String, after: UInt64) async {
        _ = await event("guest-state", after: after) { $0.guest == guest && $0.detail?.hasPrefix(text) == true }
    }

    /// Submits a write that stays in flight.
    func write(_ path: String, of guest: String) throws {
        let attachment = try #require(tree.guests[guest]?.attachments[path])
        attachment.device.submit(
            URB(
                endpoint: EndpointAddress(rawValue: 0x02),
                buffer: pool.take(512),
                requestedLength: 512,
                handler: handler,
                context: 0
            )
        )
    }
}
