// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Synchronization
internal import VUSBCore

/// An OUT endpoint: a write is one URB, answered when it completes.
///
/// A non-blocking write can't wait: it is queued and answered at once, as far as there is room; a failure comes with
/// the next write or with fsync(2), which waits for all that is queued.
///
/// Concurrency model: as `InEndpointFile`; what is queued is counted in one `Mutex`, held across no call out.
final class OutEndpointFile: TransferFile {
    private struct State: ~Copyable {
        /// Tokens of queued URBs, `.none` while one is being submitted.
        var queued: [UInt64: URBToken] = [:]
        var lastID: UInt64 = 0
        /// Of a queued write, not yet told.
        var failure: URBStatus?
        var syncing: [PendingReplies.Key] = []
        var isClosed = false
    }

    /// Non-blocking writes of one file that may be in flight.
    static let queueLimit = 16

    let id: FileHandleID
    let device: VirtualDevice
    let pending = PendingReplies()
    private let poller = Poller()
    private let address: EndpointAddress
    private let openFiles: OpenFileCount
    private let state = Mutex(State())

    /// Set in the context of a queued URB; a pending reply's key never has it, its generation being below 2^31.
    private static let queuedBit: UInt64 = 1 << 63

    init(id: FileHandleID, attachment: NodeTree.Attachment, address: EndpointAddress) {
        self.id = id
        self.device = attachment.entry.device
        self.address = address
        self.openFiles = attachment.openFiles
        openFiles.increment()
    }

    // MARK: - Requests

    func read(_ reply: consuming sending FUSEReply, size: Int, offset: Int64, isNonblocking: Bool) {
        reply.error(EBADF)
    }

    func write(_ reply: consuming sending FUSEReply, _ data: borrowing WriteData, isNonblocking: Bool) {
        guard data.count <= TransferLimit.bytes else { return reply.error(EMSGSIZE) }
        if let failure = state.withLock({ $0.failure.take() }) { return reply.error(failure.errno) }
        switch OutTransfer.urb(device, address, data, handler: self) {
        case .refused(let errno): reply.error(errno)
        case .urb(let urb):
            if isNonblocking { queue(reply, urb, count: data.count) } else { submit(reply, urb) }
        }
    }

    func poll(_ reply: consuming FUSEReply, events: UInt32, handle: consuming sending PollHandle?) {
        poller.replace(handle)
        let hasRoom = state.withLock { $0.queued.count < Self.queueLimit }
        let isGone = if case .closed = device.admission { true } else { false }
        reply.poll((hasRoom ? PollEvents.writable : 0) | (isGone ? PollEvents.gone : 0))
    }

    func sync(_ reply: consuming sending FUSEReply) {
        park(reply) { key in state.withLock { $0.syncing.append(key) } }
        answerSyncing()
    }

    func forget(_ key: PendingReplies.Key) {
        state.withLock { state in state.syncing.removeAll { $0 == key } }
    }

    func closed() {
        let tokens = state.withLock { state in
            state.isClosed = true
            return Array(state.queued.values)
        }
        poller.replace(nil)
        for token in tokens { device.cancel(token) }
        openFiles.decrement()
    }

    // MARK: - One URB a write

    func urbCompleted(_ urb: consuming URB) {
        if urb.context & Self.queuedBit != 0 { return queuedCompleted(urb.context, urb.status) }
        guard let reply = pending.take(urb.context) else { return }
        guard urb.status == .success else { return reply.error(urb.status.errno) }
        reply.written(OutTransfer.written(urb))
    }

    // MARK: - Queued writes

    private func queue(_ reply: consuming FUSEReply, _ urb: consuming PreparedURB, count: Int) {
        let context = state.withLock { state -> UInt64? in
            guard state.queued.count < Self.queueLimit else { return nil }
            state.lastID += 1
            state.queued[state.lastID | Self.queuedBit] = URBToken.none
            return state.lastID | Self.queuedBit
        }
        guard let context else { return reply.error(EAGAIN) }
        let token = device.submit(urb.with(context: context))
        state.withLock { state in if state.queued[context] != nil { state.queued[context] = token } }
        reply.written(count)
    }

    private func queuedCompleted(_ context: UInt64, _ status: URBStatus) {
        state.withLock { state in
            state.queued[context] = nil
            if status != .success && state.failure == nil { state.failure = status }
        }
        answerSyncing()
        poller.notify()
    }

    private func answerSyncing() {
        while true {
            let key = state.withLock { state -> PendingReplies.Key? in
                guard state.queued.isEmpty, !state.syncing.isEmpty else { return nil }
                return state.syncing.removeFirst()
            }
            guard let key else { return }
            // Interrupted meanwhile: the failure is for the next who asks.
            guard let reply = pending.take(key) else { continue }
            if let failure = state.withLock({ $0.failure.take() }) {
                reply.error(failure.errno)
            } else {
                reply.done()
            }
        }
    }
}

/// A write as a URB; plain or isochronous, as the endpoint is.
enum OutTransfer {
    enum Outcome: ~Copyable {
        case refused(Int32)
        case urb(PreparedURB)
    }

    static func urb(
        _ device: VirtualDevice,
        _ address: EndpointAddress,
        _ data: borrowing WriteData,
        handler: any URBHandler
    ) -> Outcome {
        guard let endpoint = device.endpoint(address), endpoint.transferType == .isochronous else {
            guard let buffer = data.transferBuffer(from: device.sendPool) else { return .refused(ENOMEM) }
            return .urb(PreparedURB(endpoint: address, buffer: buffer, length: data.count, handler: handler))
        }
        let header = data.prefix(IsochronousFrame.headerSize)
        guard let count = IsochronousFrame.announcedPackets(header) else { return .refused(EINVAL) }
        let headSize = IsochronousFrame.size(packets: count, payload: 0)
        let table = Array(data.prefix(headSize).dropFirst(IsochronousFrame.headerSize))
        let payload = data.count - headSize
        guard payload >= 0, let packets = IsochronousFrame.packets(table, payload: payload) else {
            return .refused(EINVAL)
        }
        guard var packetTable = IsoPacketTable(count: count, from: device.pool),
            let buffer = data.transferBuffer(skipping: headSize, from: device.sendPool)
        else { return .refused(ENOMEM) }
        for (index, packet) in packets.enumerated() { packetTable[index] = packet }
        return .urb(
            PreparedURB(endpoint: address, buffer: buffer, length: payload, packets: packetTable, handler: handler)
        )
    }

    /// What write(2) returns for a URB that succeeded: an isochronous write counts with its header and table.
    static func written(_ urb: borrowing URB) -> Int {
        guard urb.packetCount > 0 else { return urb.actualLength }
        return IsochronousFrame.size(packets: urb.packetCount, payload: urb.requestedLength)
    }
}
