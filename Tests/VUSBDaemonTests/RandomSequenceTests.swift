// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing
import VUSBControl
import VUSBCore
import VUSBFileSystem
import VUSBTestSupport
import VUSBVMM

@testable import VUSBDaemon

/// Everything at once, in any order: whatever is refused, no device has two owners, none is left in limbo, and no two
/// have the same numbers.
@Suite(.timeLimit(.minutes(30))) struct RandomSequenceTests {
    /// As many steps as VUSB_RANDOM_STEPS says, by default few: they are in every run of the tests.
    private static let steps = ProcessInfo.processInfo.environment["VUSB_RANDOM_STEPS"].flatMap { Int($0) } ?? 2500

    @Test(arguments: [UInt64.random(in: 1...UInt64.max), 1, 2, 3]) func invariantsHold(seed: UInt64) async throws {
        print("random sequence with seed \(seed)")
        var random = SplitMix(state: seed)
        let machines = [TestMachine("g3"), TestMachine("g4")]
        let bench = try await Bench(machines: machines)
        let guests = [
            GuestSpec(name: "g0", devices: ["0525:0000"]), GuestSpec(name: "g1", devices: ["0525:0001"]),
            GuestSpec(name: "g2"), Bench.guest("g3", ["0525:0003"]),
            Bench.guest("g4", ["0525:0004", "0525:0000"], policy: "on-demand"),
        ]
        for guest in guests { _ = try await bench.plane.addGuest(guest) }
        var pending: [OperationInfo] = []
        for step in 0..<Self.steps {
            let action = Action.random(&random)
            let machine = machines[Int.random(in: 0...1, using: &random)]
            if let operation = await carryOut(action, bench, pending, &random) { pending.append(operation) }
            carryOut(action, on: machine, bench, &random)
            try await check(bench, "seed \(seed), step \(step), \(action)")
            if pending.count > 4 { try await end(pending.removeFirst(), bench) }
        }
        for operation in pending { try await end(operation, bench) }
        // What a claim's fail-back began.
        for operation in await bench.plane.operations() where operation.state == .running {
            try await end(operation, bench)
        }
        #expect(await bench.plane.devices().allSatisfy(\.waiting.isEmpty), "somebody waits yet: seed \(seed)")
        await bench.close()
        for guest in await bench.plane.guests() {
            #expect(guest.state != .loading && guest.state != .draining, "\(guest.name): seed \(seed)")
        }
        #expect(await bench.plane.devices().allSatisfy { $0.state == .available }, "seed \(seed)")
    }

    /// Who waits without a bound gives up some time.
    private func end(_ operation: OperationInfo, _ bench: Bench) async throws {
        let info = try await bench.plane.operation(operation.id, waitSeconds: 0.05, afterSteps: nil)
        if info.state == .running, info.kind == "switch" || info.kind == "request" {
            // It may have ended, or be past the way back, by then.
            _ = try? await bench.plane.cancelOperation(operation.id)
        }
        _ = try await bench.finish(operation)
    }

    private enum Action: CaseIterable {
        case plug, unplug, load, unload, attach, detach, cancel, read, answer, fail, mend
        // Of the arbiter.
        case `switch`, request, hold, endHold, claim, unclaim, files
        // Of machines and the modules in them.
        case off, panicked, reset, start, stop, resume, channel, loader, agent, users, module

        static func random(_ random: inout SplitMix) -> Action { allCases.randomElement(using: &random) ?? .plug }
    }

    private func carryOut(_ action: Action, _ bench: Bench, _ pending: [OperationInfo], _ random: inout SplitMix) async
        -> OperationInfo?
    {
        let number = Int.random(in: 0..<5, using: &random)
        let device = "d\(number)"
        let guest = "g\(Int.random(in: 0..<5, using: &random))"
        let release = ReleaseRequest(deadlineSeconds: 0, onDeadline: Bool.random(using: &random) ? .cancel : .refuse)
        do {
            switch action {
            case .plug: _ = try bench.source.plugIn("\(device) 0525:000\(number)")
            case .unplug: try bench.source.pullOut(DeviceID(device))
            case .load: return try await bench.plane.load(guest, LoadRequest())
            case .unload: return try await bench.plane.unload(guest, release)
            case .attach: return try await bench.plane.attach(device, AttachRequest(guest: guest))
            case .detach: return try await bench.plane.detach(device, release)
            case .cancel: if let last = pending.last { _ = try await bench.plane.cancelOperation(last.id) }
            case .read:
                if let path = bench.tree.guests[guest]?.attachments.keys.first { try bench.read(path, of: guest) }
            case .fail: bench.source.fail(DeviceID(device), with: USBError(.busy, "the host has it"))
            case .mend: bench.source.fail(DeviceID(device), with: nil)
            case .switch:
                let request = SwitchRequest(
                    guest: guest, deadlineSeconds: release.deadlineSeconds,
                    onDeadline: [.refuse, .cancel, .wait].randomElement(using: &random))
                return try await bench.plane.switchDevice(device, request)
            case .request: return try await bench.plane.requestDevice(device, AttachRequest(guest: guest))
            case .hold: _ = try await bench.plane.hold(device, HoldRequest(seconds: 0.01))
            case .endHold: try await bench.plane.endHold(device)
            case .claim:
                let others = ["g0", "g1", "g2", "g3", "g4"].shuffled(using: &random).prefix(2)
                _ = try await bench.plane.addClaim(
                    ClaimSpec(
                        name: "c\(number)", match: ["port=\(device)"], guests: Array(others),
                        failBack: ClaimSpec.FailBack.allCases.randomElement(using: &random)))
            case .unclaim: try await bench.plane.removeClaim("c\(number)")
            case .files:
                bench.tree.setOpenFiles(Int.random(in: 0...1, using: &random), "1-\(number + 1)", of: guest)
            case .answer: bench.source.backend(DeviceID(device))?.held.first?.complete(data: [1])
            case .off, .panicked, .reset, .start, .stop, .resume, .channel, .loader, .agent, .users, .module: break
            }
        } catch {
            // Refusals are part of it; that they leave nothing behind is what is checked.
        }
        return nil
    }

    private func carryOut(_ action: Action, on machine: TestMachine, _ bench: Bench, _ random: inout SplitMix) {
        let name = machine.name
        let isBad = Bool.random(using: &random)
        switch action {
        case .off: bench.turnOff(machine)
        case .panicked: bench.turnOff(machine, .panicked)
        case .start: bench.start(machine)
        case .stop: bench.monitor.tell(.stopped, name)
        case .resume: bench.monitor.tell(.resumed, name)
        case .reset:
            machine.start()
            bench.monitor.tell(.reset, name)
        case .channel: bench.tree.setChannel(name, [.open, .closed, .broken].randomElement(using: &random) ?? .open)
        case .loader:
            machine.change { behaviour in
                behaviour.loadError = isBad ? USBError(.invalid, "no build") : nil
                behaviour.unloadError = isBad ? USBError(.busy, "in use") : nil
                behaviour.saysHello = Int.random(in: 0..<4, using: &random) > 0
            }
        case .agent: machine.change { $0.agentError = isBad ? USBError(.unsupported, "guest-exec is blocked") : nil }
        case .users: machine.change { $0.users = isBad ? [[GuestUser(device: "3-1", text: "a mount")], []] : [[]] }
        case .module: bench.tree.answer(name, isBad ? .no : .yes)
        case .plug, .unplug, .load, .unload, .attach, .detach, .cancel, .read, .answer, .fail, .mend, .switch, .request,
            .hold, .endHold, .claim, .unclaim, .files:
            break
        }
    }

    private func check(_ bench: Bench, _ place: String) async throws {
        let attachments = await bench.plane.guests().flatMap(\.attachments)
        #expect(Set(attachments.map(\.device)).count == attachments.count, "two owners: \(place)")
        #expect(Set(attachments.map { "\($0.guest) \($0.path)" }).count == attachments.count, "two paths: \(place)")
        #expect(Set(attachments.map { "\($0.guest) \($0.minor)" }).count == attachments.count, "two minors: \(place)")
        #expect(bench.source.doubleOpens == 0, "opened twice: \(place)")
        #expect(bench.tree.mistakes.isEmpty, "\(bench.tree.mistakes): \(place)")
        for operation in await bench.plane.waitersForFreeDevices {
            // It's on its way to have it, or to hear that it can't; a lost one would never end.
            let info = try await bench.plane.operation(operation, waitSeconds: 20, afterSteps: nil)
            let isWaiting = await bench.plane.waitersForFreeDevices.contains(operation)
            #expect(info.state != .running || !isWaiting, "waiter \(operation) is lost: \(place)")
        }
        for device in await bench.plane.devices() where device.state == .changing {
            #expect(await bench.plane.isInSomebodysHands(DeviceID(device.id)), "limbo of \(device.id): \(place)")
        }
    }
}

extension ControlPlane {
    /// The operations that are first in the queue for a device that nobody has.
    fileprivate var waitersForFreeDevices: [Int] {
        deviceRegistry.visible.map(\.id).compactMap { id in
            guard case .free? = deviceRegistry[id]?.holder else { return nil }
            return deviceQueue.first(for: id)?.operation
        }
    }

    /// A device that changes must be in a running operation, or on its way out after an unplug.
    fileprivate func isInSomebodysHands(_ id: DeviceID) -> Bool {
        guard let entry = deviceRegistry[id] else { return true }
        if case .free = entry.holder { return true }
        if case .attached = entry.holder { return true }
        guard let operation = entry.operation else { return entry.hasLeft }
        return operationLog[operation]?.hasEnded == false
    }
}

/// Repeatable randomness (SplitMix64).
struct SplitMix: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var value = state
        value = (value ^ (value >> 30)) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ (value >> 27)) &* 0x94d0_49bb_1331_11eb
        return value ^ (value >> 31)
    }
}
