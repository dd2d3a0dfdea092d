// SPDX-License-Identifier: Apache-2.0

internal import NIOCore
internal import Synchronization
internal import VUSBCore

/// A control transfer of this host's own.
private final class USBIPOwnTransfer: URBHandler {
    let outcome = USBIPOutcome<(URBStatus, [UInt8])>()

    func urbCompleted(_ urb: consuming URB) {
        let count = urb.direction == .in ? min(urb.actualLength, urb.bufferCapacity) : 0
        let status = urb.status
        guard let buffer = urb.buffer.take() else { return outcome.settle((status, [])) }
        outcome.settle((status, buffer.withBytes(count: count) { span in span.indices.map { span[$0] } }))
    }
}

extension USBIPImportSession {
    /// What the device is asked while others rest or not.
    /// - Parameter limit: where it isn't answered by then, the connection is cut.
    /// - Returns: how it has ended, and the data of an IN transfer.
    /// - Throws: `gone` where the connection is.
    func control(
        _ setup: SetupPacket, _ operation: URB.Operation = .transfer(.control), within limit: Duration
    ) async throws(USBError) -> (status: URBStatus, data: [UInt8]) {
        let transfer = USBIPOwnTransfer()
        let count = setup.direction == .in ? Int(setup.wLength) : 0
        var urb = URB(
            endpoint: .control, setup: setup, buffer: MallocMemory.buffer(count), requestedLength: count,
            handler: transfer, context: 0)
        urb.operation = operation
        let timer = Task { [cut] in
            // Cancelled when there is an answer.
            guard (try? await Task.sleep(for: limit)) != nil else { return }
            cut(USBError(.timedOut, "the device doesn't answer"))
        }
        accept(urb, isOwn: true)
        let (status, data) = await transfer.outcome.value()
        timer.cancel()
        guard status != .noDevice else { throw USBError(.gone, "the connection was lost") }
        return (status, data)
    }

    /// - Throws: `io` where the device doesn't take them; `gone`.
    func apply(_ settings: ActiveSettings, within limit: Duration) async throws(USBError) {
        let value = settings.configurationValue
        try await choose(.setConfiguration(value), .setConfiguration(value), limit)
        for (interface, alternate) in settings.alternates where alternate != 0 {
            try await choose(
                .setInterface(interface, alternate: alternate), .setInterface(interface, alternate: alternate), limit)
        }
    }

    private func choose(
        _ setup: SetupPacket, _ operation: URB.Operation, _ limit: Duration
    ) async throws(USBError) {
        let status = try await control(setup, operation, within: limit).status
        guard status == .success else {
            throw USBError(.io, "the device doesn't take its settings: \(status.rawValue)")
        }
    }

    /// URBs of others end with `status`, those that come too.
    func rest(_ status: URBStatus) async {
        state.withLock { if !$0.isEnded { $0.admission = .resting(status) } }
        cancelAll(on: .max, status)
        await idle()
    }

    func resume() {
        state.withLock { if !$0.isEnded { $0.admission = .open } }
    }

    var settings: ActiveSettings { state.withLock { $0.settings } }
}
