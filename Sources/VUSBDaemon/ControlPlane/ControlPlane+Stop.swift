// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore
internal import VUSBVMM

/// The daemon ends: devices go back to the host, and all comes back at the next start.
extension ControlPlane {
    /// - Parameter deadline: for URBs in flight; what isn't back by then is cancelled.
    func stop(deadline: Duration) async {
        guard phase == .running else { return }
        phase = .stopping
        for operation in operationLog.running { operationLog[operation]?.task?.cancel() }
        for operation in operationLog.running { await ended(operation) }
        let attachments = guestRegistry.sorted.flatMap { attached(to: $0.definition.name) }
        mark(attachments, by: nil)
        let drain = Task { await self.drain(attachments, for: deadline) }
        stopDrain = drain
        let stuck = await drain.value
        for attachment in attachments where stuck[attachment.record.id] != nil { attachment.device.cancelAll() }
        await giveBack(attachments, operation: nil)
        // Those that were unplugged just before close in the background: nothing may answer once /vusb is gone.
        for attachment in deviceRegistry.attachments { await attachment.device.close() }
        for guest in guestRegistry.sorted where guest.state == .loaded {
            tree.setGuestPublished(guest.definition.name, false)
        }
        for connector in connectors.values { await connector.stop() }
        eventRing.finish()
    }

    /// The wait for URBs in flight ends now.
    func hurry() { stopDrain?.cancel() }
}
