// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VUSBCore

/// A guest's channel, while its file is there: which devices it is about, and who has it open.
///
/// Concurrency model: the control plane opens, closes and plugs, reader threads open the file and say what the guest
/// did. All state is in one `Mutex`, held across no call but those to the session that only change its state, and to
/// the stream of events, so that these are in order. Lock order: the tree's, this one, the session's.
final class HCDChannel: Sendable {
    private struct Attachment {
        let path: String
        let device: VirtualDevice
        let port: UInt32
        /// In the session that greets; 0 where the guest doesn't have it.
        var handle: UInt16 = 0
        /// The control plane takes it away: the next opener isn't told of it.
        var isWithdrawn = false
    }

    private struct State {
        var attachments: [Attachment] = []
        var session: HCDSession?
        /// Closed, with URBs that haven't ended.
        var ending: [HCDSession] = []
        /// The session has said hello: it knows the attachments.
        var isGreeted = false
        var isShut = false
        var openCount = 0
    }

    let guest: String
    private let events: AsyncStream<HCDChannelEvent>.Continuation
    private let state = Mutex(State())

    init(guest: String, events: AsyncStream<HCDChannelEvent>.Continuation) {
        self.guest = guest
        self.events = events
    }

    var status: HCDChannelStatus {
        let (session, count) = state.withLock { ($0.session, $0.openCount) }
        var status = session?.status ?? HCDChannelStatus(state: .closed)
        status.openCount = count
        return status
    }

    // MARK: - The file

    /// Nil where somebody has it open, or it's no more, or too much of earlier openers is still ending.
    func open() -> HCDSession? {
        state.withLock { state in
            state.ending.removeAll { $0.status.urbsInFlight == 0 }
            guard !state.isShut, state.session == nil, state.ending.count < HCDLimits.endingSessions else { return nil }
            let session = HCDSession(channel: self)
            state.session = session
            state.openCount += 1
            return session
        }
    }

    /// The file of that session was closed.
    func close(_ session: HCDSession) {
        state.withLock { state in
            guard state.session === session else { return }
            forgetSession(&state)
        }
        end(session)
    }

    private func end(_ session: HCDSession) {
        session.close()
        guard session.status.urbsInFlight > 0 else { return }
        state.withLock { $0.ending.append(session) }
    }

    /// The file is no more: it is closed under whoever has it open.
    func shut() {
        let session = state.withLock { state in
            defer { state.isShut = true }
            let session = state.session
            if session != nil { forgetSession(&state) }
            return session
        }
        if let session { end(session) }
    }

    private func forgetSession(_ state: inout State) {
        state.session = nil
        state.isGreeted = false
        for index in state.attachments.indices { state.attachments[index].handle = 0 }
        emit(.closed)
    }

    private func emit(_ kind: HCDChannelEvent.Kind) { events.yield(HCDChannelEvent(guest: guest, kind: kind)) }

    // MARK: - What a session says

    func greeted(_ session: HCDSession, peer: String) {
        let violation = state.withLock { state -> HCDViolation? in
            guard state.session === session else { return nil }
            state.isGreeted = true
            emit(.opened(peer: peer))
            for index in state.attachments.indices {
                if let violation = Self.tell(session, &state.attachments[index]) { return violation }
            }
            return nil
        }
        session.told(violation)
    }

    func servesOneAtATime(_ session: HCDSession) { tell(.oneAtATime, of: session) }

    func broken(_ session: HCDSession, _ violation: HCDViolation) { tell(.broken(rule: violation.rule), of: session) }

    private func tell(_ kind: HCDChannelEvent.Kind, of session: HCDSession) {
        state.withLock { state in
            if state.session === session { emit(kind) }
        }
    }

    /// The guest has let go of a device. One that it is to have all the same, because nobody takes it away any more,
    /// comes anew.
    func letGo(_ handle: UInt16, by session: HCDSession) {
        let violation = state.withLock { state -> HCDViolation? in
            guard state.session === session,
                let index = state.attachments.firstIndex(where: { $0.handle == handle })
            else { return nil }
            state.attachments[index].handle = 0
            return Self.tell(session, &state.attachments[index])
        }
        session.told(violation)
    }

    /// Says that the device is there, where it's not withdrawn.
    private static func tell(_ session: HCDSession, _ attachment: inout Attachment) -> HCDViolation? {
        guard attachment.handle == 0, !attachment.isWithdrawn else { return nil }
        let (handle, violation) = session.add(attachment.device, port: attachment.port)
        attachment.handle = handle
        return violation
    }

    // MARK: - The control plane

    func attach(path: String, _ device: VirtualDevice) {
        let (session, violation) = state.withLock { state -> (HCDSession?, HCDViolation?) in
            var attachment = Attachment(path: path, device: device, port: Self.port(of: path))
            guard let session = state.session, state.isGreeted else {
                state.attachments.append(attachment)
                return (nil, nil)
            }
            let violation = Self.tell(session, &attachment)
            state.attachments.append(attachment)
            return (session, violation)
        }
        session?.told(violation)
    }

    /// The guest has the device no more; it's told at once, unless it has let go of it.
    func detach(path: String) {
        let (session, handle) = state.withLock { state -> (HCDSession?, UInt16) in
            guard let index = state.attachments.firstIndex(where: { $0.path == path }) else { return (nil, 0) }
            let attachment = state.attachments.remove(at: index)
            return (state.session, attachment.handle)
        }
        if handle != 0 { session?.remove(handle, orderly: false, isAwaited: false) }
    }

    func withdraw(path: String, orderly: Bool, for limit: Duration) async -> Bool {
        let (session, handle) = setWithdrawn(path, true)
        guard let session, handle != 0, let key = session.remove(handle, orderly: orderly, isAwaited: true) else {
            return true
        }
        guard await !session.answers.wait(for: key, limit: limit) else { return true }
        // It stays the guest's. Perhaps it has let go of it just now.
        setWithdrawn(path, false).session?.told(nil)
        return false
    }

    @discardableResult
    private func setWithdrawn(_ path: String, _ isWithdrawn: Bool) -> (session: HCDSession?, handle: UInt16) {
        state.withLock { state in
            guard let index = state.attachments.firstIndex(where: { $0.path == path }) else { return (nil, 0) }
            state.attachments[index].isWithdrawn = isWithdrawn
            if let session = state.session, state.isGreeted, !isWithdrawn {
                // What it can't take breaks it with the next thing that is said.
                _ = Self.tell(session, &state.attachments[index])
            }
            return (state.session, state.attachments[index].handle)
        }
    }

    func quiesce(path: String?, for limit: Duration) async -> Bool {
        guard let (session, handle) = target(path), let key = session.quiesce(handle) else { return true }
        return await session.answers.wait(for: key, limit: limit)
    }

    func resume(path: String?) {
        if let (session, handle) = target(path) { session.resume(handle) }
    }

    /// Handle 0 where all are meant; nil where the guest has no such device, or nobody has the file open.
    private func target(_ path: String?) -> (HCDSession, UInt16)? {
        state.withLock { state in
            guard let session = state.session, state.isGreeted else { return nil }
            guard let path else { return (session, 0) }
            guard let handle = state.attachments.first(where: { $0.path == path })?.handle, handle != 0 else {
                return nil
            }
            return (session, handle)
        }
    }

    /// `1-3` would like to be at port 3.
    private static func port(of path: String) -> UInt32 {
        path.split(separator: "-").last.flatMap { UInt32($0) } ?? 0
    }
}

extension HCDSession {
    /// `HCDChannel` has told it something, under its lock: the reader learns of it now.
    func told(_ violation: HCDViolation?) {
        if let violation { return breakOff(violation) }
        state.withLock { $0.reader }?.channelChanged()
    }
}
