// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore
internal import VUSBVMM

/// The daemon ends: devices go back to the host, and all comes back at the next start.
extension ControlPlane {
    /// - Parameter deadline: for URBs in flight; what isn't back by then is cancelled.
    func stop(deadline: Duration) async {
        guard phase == .running else { return }
        phase = .stopping
        for timer in idleTimers.values { timer.cancel() }
        for operation in operationLog.running { operationLog[operation]?.task?.cancel() }
        for operation in operationLog.running { await ended(operation) }
        let attachments = guestRegistry.sorted.flatMap { attached(to: $0.definition.name) }
        mark(attachments, by: nil)
        let drain = Task { await self.letAllGo(attachments, for: deadline) }
        stopDrain = drain
        let stuck = await drain.value
        for attachment in attachments where stuck[attachment.record.id] != nil { attachment.device.cancelAll() }
        await giveBack(attachments, operation: nil)
        // Those that were unplugged just before close in the background: nothing may answer once /vusb is gone.
        for attachment in deviceRegistry.attachments { await attachment.device.close() }
        // Modules stay where they are, and their files are gone: they look for vusbd until it's back.
        for guest in guestRegistry.sorted where guest.state == .loaded { await hide(guest.definition.name) }
        // What is mounted elsewhere would outlive /vusb.
        for guest in guestRegistry.sorted where guest.definition.isExported { exports.withdraw(guest.definition.name) }
        for connector in connectors.values { await connector.stop() }
        eventRing.finish()
    }

    /// Drains all devices; those in guests' kernels are taken from their drivers first.
    /// - Returns: URBs in flight at the deadline, by device.
    private func letAllGo(_ attachments: [Attachment], for limit: Duration) async -> [DeviceID: Int] {
        for attachment in attachments { attachment.quiet() }
        let inModules = attachments.filter { guestRegistry[$0.guest]?.hasModule == true }
        let ids = Set(inModules.map(\.record.id))
        async let others = drain(attachments.filter { !ids.contains($0.record.id) }, for: limit)
        await withTaskGroup(of: Void.self) { group in
            for attachment in inModules { group.addTask { await self.letGo(attachment, for: limit) } }
        }
        let cut = await drain(inModules, for: .zero)
        return await others.merging(cut) { first, _ in first }
    }

    /// What isn't let go of in time loses its device when that is taken out of the directory.
    private func letGo(_ attachment: Attachment, for limit: Duration) async {
        let tree = tree
        _ = await ask(attachment.guest, for: limit) { () async throws(USBError) in
            await tree.withdraw(path: attachment.path, from: attachment.guest, orderly: true, for: limit)
        }
    }

    /// The wait for URBs in flight, and for guests, ends now.
    func hurry() {
        stopDrain?.cancel()
        guestCalls.giveUpAll(USBError(.cancelled, "vusbd is stopping"))
    }
}
