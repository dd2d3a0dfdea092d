// SPDX-License-Identifier: Apache-2.0

import Synchronization
package import VUSBCore

/// A URB that a backend holds until a test completes it by hand.
///
/// Concurrency model: any thread may complete it; the first one wins. The URB is taken out of the `Mutex` before it is
/// completed.
package final class ManualCompletion: Sendable {
    package let token: URBToken
    package let endpoint: EndpointAddress
    package let operation: URB.Operation
    package let setup: SetupPacket?
    package let requestedLength: Int
    /// What an OUT transfer brings; empty for an IN transfer.
    package let bytes: [UInt8]
    private let slot: Mutex<URB?>

    package init(_ urb: consuming URB) {
        token = urb.token
        endpoint = urb.endpoint
        operation = urb.operation
        setup = urb.setup
        requestedLength = urb.requestedLength
        bytes = urb.direction == .out ? urb.bytes(count: urb.requestedLength) : []
        slot = Mutex(urb)
    }

    /// Completes it, and fills the buffer of an IN transfer with `data`.
    /// - Parameter actualLength: counts from `data` for an IN transfer, and is all for an OUT transfer that succeeded,
    ///   where it isn't given.
    /// - Returns: false where it was complete already.
    @discardableResult
    package func complete(_ status: URBStatus = .success, data: [UInt8] = [], actualLength: Int? = nil) -> Bool {
        guard var urb = slot.withLock({ $0.take() }) else { return false }
        let sent = urb.direction == .out && status == .success ? urb.requestedLength : data.count
        if urb.direction == .in, data.count <= urb.bufferCapacity { urb.buffer?.copy(data) }
        urb.complete(status, actualLength: actualLength ?? sent)
        return true
    }

    /// Completes an isochronous URB: each packet with `status` and all of its bytes, IN ones filled with `fill`.
    @discardableResult
    package func completePackets(_ status: URBStatus = .success, fill: UInt8 = 0) -> Bool {
        guard var urb = slot.withLock({ $0.take() }) else { return false }
        var total = 0
        for index in 0..<urb.packetCount {
            guard var packet = urb.packet(at: index) else { continue }
            packet.status = status
            packet.actualLength = status == .success ? packet.length : 0
            total += Int(packet.actualLength)
            urb.packets?[index] = packet
        }
        if urb.direction == .in {
            let count = min(urb.requestedLength, urb.bufferCapacity)
            urb.buffer?.copy(Array(repeating: fill, count: count))
        }
        urb.complete(status, actualLength: total)
        return true
    }

    /// Completes an isochronous URB packet by packet: bytes moved and status of each. Byte j of packet i of an IN
    /// transfer is `16 * i + j`.
    @discardableResult
    package func completeIsochronous(
        _ results: [(actualLength: UInt32, status: Int32)],
        errorCount: Int = 0,
        startFrame: UInt32 = 0
    ) -> Bool {
        guard var urb = slot.withLock({ $0.take() }) else { return false }
        for (index, result) in results.enumerated() {
            guard var packet = urb.packet(at: index) else { continue }
            packet.actualLength = result.actualLength
            packet.status = URBStatus(rawValue: result.status)
            urb.packets?[index] = packet
            let bytes = (0..<Int(result.actualLength)).map { UInt8(truncatingIfNeeded: 16 * index + $0) }
            if urb.direction == .in { urb.buffer?.copy(bytes, at: Int(packet.offset)) }
        }
        urb.errorCount = errorCount
        urb.startFrame = startFrame
        urb.complete(
            errorCount == 0 ? .success : .partial, actualLength: Int(results.reduce(0) { $0 + $1.actualLength }))
        return true
    }

    package var isComplete: Bool {
        slot.withLock { held in
            switch held {
            case .some: false
            case .none: true
            }
        }
    }
}
