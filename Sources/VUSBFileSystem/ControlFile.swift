// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Synchronization
internal import VUSBCore

/// Endpoint 0. A write is a setup packet, with the data of an OUT transfer behind it, and carries that transfer out. A
/// setup packet for IN is kept, and the next read carries it out and gets its data. Each opener has its own.
///
/// Concurrency model: as `InEndpointFile`; the setup packet kept is in one `Mutex`.
final class ControlFile: TransferFile {
    private enum State: Equatable {
        case idle
        /// An IN transfer that the next read carries out.
        case armed(SetupPacket)
        /// Its data were read: the next read is end of file, so that `cat` ends.
        case answered
    }

    let id: FileHandleID
    let device: VirtualDevice
    let pending = PendingReplies()
    private let openFiles: OpenFileCount
    private let state = Mutex(State.idle)

    init(id: FileHandleID, attachment: NodeTree.Attachment) {
        self.id = id
        self.device = attachment.entry.device
        self.openFiles = attachment.openFiles
        openFiles.increment()
    }

    func write(_ reply: consuming sending FUSEReply, _ data: borrowing WriteData, isNonblocking: Bool) {
        let header = data.prefix(SetupPacket.byteCount)
        guard let setup = SetupPacket(header.span) else { return reply.error(EINVAL) }
        let dataCount = data.count - SetupPacket.byteCount
        if setup.direction == .in {
            guard dataCount == 0 else { return reply.error(EINVAL) }
            state.withLock { $0 = .armed(setup) }
            return reply.written(SetupPacket.byteCount)
        }
        guard dataCount == Int(setup.wLength) else { return reply.error(EINVAL) }
        guard let buffer = data.transferBuffer(skipping: SetupPacket.byteCount, from: device.sendPool) else {
            return reply.error(ENOMEM)
        }
        submit(reply, setup, buffer)
    }

    func read(_ reply: consuming sending FUSEReply, size: Int, offset: Int64, isNonblocking: Bool) {
        let next = state.withLock { state -> (errno: Int32?, setup: SetupPacket?) in
            switch state {
            case .idle: return (EINVAL, nil)
            case .answered:
                state = .idle
                return (nil, nil)
            case .armed(let setup):
                // It stays armed: a longer read gets it.
                guard size >= Int(setup.wLength) else { return (EMSGSIZE, nil) }
                state = .answered
                return (nil, setup)
            }
        }
        if let errno = next.errno { return reply.error(errno) }
        guard let setup = next.setup else { return reply.data([]) }
        guard let buffer = device.pool.take(Int(setup.wLength)) else { return reply.error(ENOMEM) }
        submit(reply, setup, buffer)
    }

    /// None is ever parked here.
    func forget(_ key: PendingReplies.Key) {}

    func closed() { openFiles.decrement() }

    private func submit(_ reply: consuming sending FUSEReply, _ setup: SetupPacket, _ buffer: consuming TransferBuffer)
    {
        let urb = PreparedURB(
            endpoint: .control,
            setup: setup,
            buffer: buffer,
            length: Int(setup.wLength),
            handler: self
        )
        submit(reply, urb)
    }

    func urbCompleted(_ urb: consuming URB) {
        guard let reply = pending.take(urb.context) else { return }
        if urb.direction == .in { return InTransfer.answer(reply, urb, device.pool) }
        guard urb.status == .success else { return reply.error(urb.status.errno) }
        reply.written(SetupPacket.byteCount + urb.requestedLength)
    }
}
