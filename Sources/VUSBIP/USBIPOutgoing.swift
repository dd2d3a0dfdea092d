// SPDX-License-Identifier: Apache-2.0

internal import NIOCore
internal import VUSBCore

/// What is to be sent, in order, until the connection takes it: a batch of answers with small data, and messages that
/// are sent from where they are. Whoever's turn it is has it.
struct USBIPOutgoing {
    /// Those to be sent before the batch.
    private var messages: [ByteBuffer] = []
    private var messageBytes = 0
    /// Being filled; nil where nothing has been put into it.
    private var batch: ByteBuffer?
    /// Batches that were given away. One that has been sent is used again: nothing is allocated for a batch.
    private var spares: [ByteBuffer] = []
    private let allocator: ByteBufferAllocator

    private static let spareCount = 4
    private static let firstCapacity = 16 << 10
    /// A batch that has grown beyond isn't kept.
    private static let keptCapacity = 256 << 10

    init(_ allocator: ByteBufferAllocator) { self.allocator = allocator }

    /// So much that it should be sent before more is made.
    var isFull: Bool { messageBytes + (batch?.readableBytes ?? 0) >= USBIPLimits.outboxLow }

    mutating func append(_ reply: USBIPReply) {
        fill { $0.append(reply) }
    }

    /// Adds to the batch.
    mutating func fill(_ body: (inout ByteBuffer) -> Void) {
        var current = batch.take() ?? spare()
        body(&current)
        batch = current
    }

    /// Sent behind what is there.
    mutating func append(_ message: ByteBuffer) {
        seal()
        messages.append(message)
        messageBytes += message.readableBytes
    }

    /// Gives all away, by changing it for an array that is empty.
    mutating func give(to target: inout [ByteBuffer]) {
        seal()
        swap(&messages, &target)
        messageBytes = 0
    }

    private mutating func seal() {
        guard let sealed = batch.take() else { return }
        messages.append(sealed)
        messageBytes += sealed.readableBytes
        if spares.count < Self.spareCount, sealed.capacity <= Self.keptCapacity { spares.append(sealed) }
    }

    /// One that nobody else has any more is taken out: it comes back when it's sealed.
    private mutating func spare() -> ByteBuffer {
        for index in spares.indices where spares[index].modifyIfUniquelyOwned({ $0.clear() }) != nil {
            return spares.remove(at: index)
        }
        if spares.count == Self.spareCount { spares.removeFirst() }
        return allocator.buffer(capacity: Self.firstCapacity)
    }
}
