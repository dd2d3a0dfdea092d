// SPDX-License-Identifier: Apache-2.0

package import VUSBCore

/// How a URB ended: what is left of it once its buffer is back in the pool.
package struct Completion: Sendable, Equatable {
    package let endpoint: EndpointAddress
    package let operation: URB.Operation
    package let token: URBToken
    package let context: UInt64
    package let status: URBStatus
    package let actualLength: Int
    /// The first `actualLength` bytes of the buffer.
    package let bytes: [UInt8]
    package let packets: [IsoPacket]
    package let errorCount: Int

    package init(_ urb: borrowing URB) {
        endpoint = urb.endpoint
        operation = urb.operation
        token = urb.token
        context = urb.context
        status = urb.status
        actualLength = urb.actualLength
        bytes = urb.bytes(count: urb.actualLength)
        packets = (0..<urb.packetCount).compactMap { urb.packet(at: $0) }
        errorCount = urb.errorCount
    }
}

/// A front for tests: keeps how each of its URBs ended, in order.
package final class RecordingHandler: URBHandler {
    private let inbox = Inbox<Completion>()
    /// Called on the completing thread before the completion counts: for tests that act from inside a handler.
    private let onCompletion: (@Sendable (Completion) -> Void)?

    package init(onCompletion: (@Sendable (Completion) -> Void)? = nil) { self.onCompletion = onCompletion }

    package func urbCompleted(_ urb: consuming URB) {
        let completion = Completion(urb)
        // Its buffer is in the pool again before anybody can learn that it completed.
        urb.discard()
        onCompletion?(completion)
        inbox.append(completion)
    }

    package var completions: [Completion] { inbox.elements }

    /// Waits until `count` have completed in all; see `Inbox.wait`.
    @discardableResult
    package func wait(for count: Int, within limit: Duration = .seconds(20)) async -> [Completion] {
        await inbox.wait(for: count, within: limit)
    }
}

extension URB {
    /// A copy of the first bytes of its buffer; fewer where the buffer is smaller.
    package borrowing func bytes(count: Int) -> [UInt8] {
        switch buffer {
        case .some(let buffer):
            buffer.withBytes(count: max(0, min(count, buffer.capacity))) { span in
                var copy: [UInt8] = []
                copy.reserveCapacity(span.count)
                for index in span.indices { copy.append(span[index]) }
                return copy
            }
        case .none: []
        }
    }

    /// Ends its life without telling anybody: only for the handler that it was given back to.
    fileprivate consuming func discard() {}
}
