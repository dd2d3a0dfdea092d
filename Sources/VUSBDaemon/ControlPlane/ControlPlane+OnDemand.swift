// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl
internal import VUSBCore
internal import VUSBVMM

/// `policy: on-demand`: a guest is loaded with the first device that it's given and unloaded with its last.
extension ControlPlane {
    /// The device is free: that was checked without letting go of the actor. A guest that is just being loaded or
    /// unloaded is waited for: nobody can know when it does that.
    func beginAttachOnDemand(_ id: DeviceID, to guest: GuestEntry) throws(Problem) -> OperationInfo {
        let name = guest.definition.name
        guard !guest.isLoadedOnDemand else { return beginLoad(name, try plan(for: guest, id, byHand: true)) }
        let operation = begin(.attach, guest: name, device: id)
        reserve(id, for: name, operation)
        return run(operation) { (plane, operation) async throws(Problem) in
            do throws(Problem) {
                try await plane.awaitRest(of: name, operation: operation)
            } catch {
                plane.settle(id)
                throw error
            }
            return try await plane.attachAtRest(id, to: name, operation: operation)
        }
    }

    private func awaitRest(of name: String, operation: Int) async throws(Problem) {
        while let other = guestRegistry[name]?.state.operation {
            operationLog.step(operation, "waiting for operation \(other)")
            await wait(for: other, seconds: Self.longestWait, afterSteps: nil)
            try checkCancelled(operation)
        }
    }

    /// The guest is whatever the other operation made of it.
    private func attachAtRest(_ id: DeviceID, to name: String, operation: Int) async throws(Problem) -> AttachmentInfo?
    {
        let loading: LoadPlan?
        do throws(Problem) {
            let guest = try guestRegistry.find(name)
            loading = guest.isLoadedOnDemand ? try plan(for: guest, id, byHand: true) : nil
            if loading == nil { try checkTakesDevices(guest) }
        } catch {
            settle(id)
            throw error
        }
        guard let loading else { return try await attach(id, to: name, byHand: true, operation: operation) }
        markLoading(name, loading, operation)
        return try await load(name, loading, operation: operation)
    }

    private func plan(for guest: GuestEntry, _ id: DeviceID, byHand: Bool) throws(Problem) -> LoadPlan {
        LoadPlan(
            origin: .demand,
            mode: try mode(of: guest, asked: nil),
            isAuto: guest.isAuto(nil),
            device: id,
            byHand: byHand,
            modulesBefore: guest.modules
        )
    }

    /// A device that nobody has and whose heir isn't loaded.
    func demand(_ record: DeviceRecord, by name: String) {
        do {
            // Nobody asked for it, so nobody waits: how it ends is told as an event.
            _ = beginLoad(name, try plan(for: guestRegistry.find(name), record.id, byHand: false))
        } catch {
            emit(.attachFailed, guest: name, device: record.id, detail: error.detail)
        }
    }

    /// A guest was declared, or vusbd started: what it's to be loaded for may be there already.
    func demandAll(for name: String) {
        for record in inheritance(of: name) {
            guard phase == .running, guestRegistry[name]?.isLoadedOnDemand == true else { return }
            guard case .free? = deviceRegistry[record.id]?.holder, heir(of: record) == .onDemand(name) else { continue }
            demand(record, by: name)
        }
    }

    /// The guest has lost a device. If that was its last, and none comes for a while, it's unloaded, or moved to the mode
    /// that is the better one by then.
    func noteLoss(of name: String) {
        idleTimers.removeValue(forKey: name)?.cancel()
        // What it couldn't be given before, as it had all that it may have.
        if guestRegistry[name]?.definition.deviceLimit != nil { offerAll(to: name) }
        guard guestRegistry[name]?.state == .loaded, hasNothing(name) else { return }
        let grace = tools.times.idle
        idleTimers[name] = Task {
            do {
                try await Task.sleep(for: grace)
            } catch {
                return  // Another loss, or the daemon's end, has taken its place.
            }
            self.leaveIfIdle(name)
        }
    }

    private func leaveIfIdle(_ name: String) {
        idleTimers[name] = nil
        guard phase == .running, let guest = guestRegistry[name], guest.state == .loaded, hasNothing(name) else {
            return
        }
        guard guest.definition.policy == .onDemand else { return moveModeIfIdle(name) }
        // Without a device there is nothing to lose; how it ends is told as an event.
        _ = beginUnload(name, .idle, because: .idle)
    }

    /// Neither has it a device, nor does it wait for one.
    func hasNothing(_ name: String) -> Bool {
        !deviceQueue.has(guest: name) && !deviceRegistry.entries.values.contains { $0.guest == name }
    }
}
