// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import VUSBCore

/// An open file whose requests may wait for their answer in `PendingReplies`.
protocol WaitingFile: OpenFile {
    var id: FileHandleID { get }
    var pending: PendingReplies { get }
    /// A parked request was interrupted: nobody is to look for it any more.
    func forget(_ key: PendingReplies.Key)
    /// A request whose URB is in flight was interrupted.
    func cancel(_ token: URBToken)
}

extension WaitingFile {
    /// Parks a request that something else than a URB of its own will answer. `keep` notes its key first, because the
    /// answer may be found by whoever looks next.
    func park(_ reply: consuming sending FUSEReply, _ keep: (PendingReplies.Key) -> Void) {
        let registration = reply.interruptRegistration
        let key = pending.add(reply)
        registration.register(id)
        keep(key)
        guard let reply = pending.park(key) else { return }
        forget(key)
        reply.error(EINTR)
    }

    func interrupted(_ request: UInt) {
        switch pending.interrupted(request) {
        case .nothing: break
        case .cancel(let token): cancel(token)
        case .answer(let reply, let key):
            forget(key)
            reply.error(EINTR)
        }
    }

    func abandon() { pending.answerAll(ENODEV) }
}

/// A waiting file whose requests become URBs: endpoint files and `ep/00`.
protocol TransferFile: WaitingFile, URBHandler {
    var device: VirtualDevice { get }
}

extension TransferFile {
    /// Submits the URB whose completion answers `reply`, unless a signal was there first (rows F1-F3).
    func submit(_ reply: consuming sending FUSEReply, _ urb: consuming PreparedURB) {
        let registration = reply.interruptRegistration
        let key = pending.add(reply)
        registration.register(id)
        if let reply = pending.beginSubmit(key) { return reply.error(EINTR) }
        let token = device.submit(urb.with(context: key))
        if pending.submitted(key, token) { device.cancel(token) }
    }

    func cancel(_ token: URBToken) { device.cancel(token) }
}
