// SPDX-License-Identifier: Apache-2.0

import Synchronization
import VUSBCore
import VUSBFileSystem

@testable import VUSBDaemon

/// What the control plane shows, as a test sees it.
final class RecordingTree: GuestTree {
    struct Guest: Sendable {
        var state = ""
        var isPublished = false
        var attachments: [String: Attachment] = [:]
        var lines: [String] = []
    }

    struct Host: Sendable, Equatable {
        var state: String
        var guest: String?
    }

    /// What a guest's module does with what it's asked on its channel.
    enum Answer: Sendable { case yes, no, never }

    private struct State {
        var guests: [String: Guest] = [:]
        var hosts: [DeviceID: Host] = [:]
        var mistakes: [String] = []
        var channels: [String: HCDChannelStatus] = [:]
        var answers: [String: Answer] = [:]
        var openFiles: [String: Int] = [:]
        var quiet: [String: Set<String>] = [:]
        var journal: [String] = []
        var onChannel: @Sendable (String) -> Void = { _ in }
        var beats: [String: ContinuousClock.Instant] = [:]
        var awaitedBeats: Set<String> = []
    }

    private let state = Mutex(State())
    private let stream: AsyncStream<HCDChannelEvent>
    private let events: AsyncStream<HCDChannelEvent>.Continuation
    private let beats = AsyncStream.makeStream(of: HeartbeatEvent.self)

    init() { (stream, events) = AsyncStream.makeStream(of: HCDChannelEvent.self) }

    var guests: [String: Guest] { state.withLock { $0.guests } }
    var hosts: [DeviceID: Host] { state.withLock { $0.hosts } }
    /// What should never be asked of a tree.
    var mistakes: [String] { state.withLock { $0.mistakes } }

    func setHostDevice(_ record: DeviceRecord, state text: String, guest: String?) {
        state.withLock { $0.hosts[record.id] = Host(state: text, guest: guest) }
    }

    func removeHostDevice(_ id: DeviceID) { state.withLock { $0.hosts[id] = nil } }

    func addGuest(_ name: String, access: GuestAccess) {
        state.withLock { state in
            if state.guests[name] != nil { state.mistakes.append("guest \(name) twice") }
            state.guests[name] = Guest()
        }
    }

    func removeGuest(_ name: String) {
        state.withLock { state in
            let guest = state.guests.removeValue(forKey: name)
            if guest?.attachments.isEmpty != true { state.mistakes.append("\(name) removed with devices") }
        }
    }

    func setGuestState(_ name: String, _ text: String) { state.withLock { $0.guests[name]?.state = text } }

    func setGuestPublished(_ name: String, _ published: Bool, heartbeat: Bool) {
        state.withLock { state in
            state.beats[name] = nil
            if !published, state.guests[name]?.attachments.isEmpty == false {
                state.mistakes.append("\(name) unpublished with devices")
            }
            state.guests[name]?.isPublished = published
        }
    }

    // MARK: - Heartbeats

    func lastHeartbeat(of guest: String) -> ContinuousClock.Instant? { state.withLock { $0.beats[guest] } }

    @discardableResult func tellNextBeat(of guest: String) -> Bool {
        state.withLock { $0.awaitedBeats.insert(guest).inserted }
    }

    func heartbeatEvents() -> AsyncStream<HeartbeatEvent> { beats.stream }

    /// The guest writes to its `heartbeat`.
    func beat(_ guest: String, at instant: ContinuousClock.Instant = .now, isTold: Bool = true) {
        let isAwaited = state.withLock { state in
            state.beats[guest] = instant
            return state.awaitedBeats.remove(guest) != nil
        }
        if isAwaited, isTold { beats.continuation.yield(HeartbeatEvent(guest: guest, instant: instant)) }
    }

    func appendEvent(to guest: String, line: String) { state.withLock { $0.guests[guest]?.lines.append(line) } }

    func attach(_ attachment: Attachment) {
        state.withLock { state in
            if state.guests[attachment.guest]?.isPublished != true { state.mistakes.append("attached unpublished") }
            if state.guests[attachment.guest]?.attachments[attachment.path] != nil {
                state.mistakes.append("\(attachment.path) of \(attachment.guest) twice")
            }
            state.guests[attachment.guest]?.attachments[attachment.path] = attachment
        }
    }

    func detach(path: String, from guest: String) {
        state.withLock { state in
            if state.guests[guest]?.attachments.removeValue(forKey: path) == nil {
                state.mistakes.append("\(path) of \(guest) isn't there")
            }
        }
    }

    func openHandles(path: String, of guest: String) -> Int { state.withLock { $0.openFiles[guest + " " + path] ?? 0 } }

    /// Programs have so many of an attachment's endpoint files open.
    func setOpenFiles(_ count: Int, _ path: String, of guest: String) {
        state.withLock { $0.openFiles[guest + " " + path] = count }
    }

    func arrival(path: String, of guest: String) -> [Uevent] { uevents(.add, path, guest) }
    func departure(path: String, of guest: String) -> [Uevent] { uevents(.remove, path, guest) }

    /// Of what is there.
    private func uevents(_ action: Uevent.Action, _ path: String, _ guest: String) -> [Uevent] {
        let isThere = state.withLock { $0.guests[guest]?.attachments[path] != nil }
        return isThere ? [Uevent(action, devicePath: "/" + path, subsystem: "usb", properties: [])] : []
    }

    // MARK: - Channels

    /// Guests that have a channel, and how it is.
    var channels: [String: HCDChannelStatus] { state.withLock { $0.channels } }
    /// What modules were asked, in order.
    var journal: [String] { state.withLock { $0.journal } }
    /// What is quiesced and not resumed.
    var quiet: [String: Set<String>] { state.withLock { $0.quiet.filter { !$0.value.isEmpty } } }

    /// How the guest's module answers from now on: `yes` where nothing was said.
    func answer(_ guest: String, _ answer: Answer) { state.withLock { $0.answers[guest] = answer } }
    /// - Parameter handler: told when a guest's channel appears.
    func onChannel(_ handler: @escaping @Sendable (String) -> Void) { state.withLock { $0.onChannel = handler } }

    /// A guest's module opens its file and says hello, or closes it; nothing happens where there is no file.
    func setChannel(
        _ guest: String, _ channelState: HCDChannelStatus.State, oneAtATime: Bool = false, ports: Int = 15
    ) {
        let isThere = state.withLock { state in
            guard let status = state.channels[guest], status.state != channelState || oneAtATime else { return false }
            state.channels[guest] = HCDChannelStatus(
                state: channelState, peer: "test 1", ports: ports, isOneAtATime: oneAtATime,
                openCount: status.openCount + 1)
            return true
        }
        guard isThere else { return }
        switch channelState {
        case .open: events.yield(HCDChannelEvent(guest: guest, kind: .opened(peer: "test 1")))
        case .closed, .leaving: events.yield(HCDChannelEvent(guest: guest, kind: .closed))
        case .broken: events.yield(HCDChannelEvent(guest: guest, kind: .broken(rule: "C3")))
        case .greeting: break
        }
        if oneAtATime { events.yield(HCDChannelEvent(guest: guest, kind: .oneAtATime)) }
    }

    func openChannel(of guest: String) {
        let handler = state.withLock { state in
            if state.channels[guest] != nil { state.mistakes.append("second channel of \(guest)") }
            state.channels[guest] = HCDChannelStatus(state: .closed)
            return state.onChannel
        }
        handler(guest)
    }

    func closeChannel(of guest: String) {
        state.withLock { state in
            if state.guests[guest]?.attachments.isEmpty == false {
                state.mistakes.append("channel of \(guest) closed with devices")
            }
            state.channels[guest] = nil
            state.quiet[guest] = nil
        }
    }

    func channelStatus(of guest: String) -> HCDChannelStatus? { state.withLock { $0.channels[guest] } }
    func channelEvents() -> AsyncStream<HCDChannelEvent> { stream }

    func quiesce(path: String?, of guest: String, for limit: Duration) async -> Bool {
        state.withLock { state in
            state.journal.append("quiesce \(path ?? "all")")
            state.quiet[guest, default: []].insert(path ?? "all")
        }
        return await answered(guest, limit)
    }

    func resume(path: String?, of guest: String) {
        state.withLock { state in
            state.journal.append("resume \(path ?? "all")")
            state.quiet[guest]?.remove(path ?? "all")
        }
    }

    /// The guest's URBs for a device that it lets go of end.
    func withdraw(path: String, from guest: String, orderly: Bool, for limit: Duration) async -> Bool {
        let device = state.withLock { state in
            state.journal.append("withdraw \(path) \(orderly ? "orderly" : "now")")
            return state.guests[guest]?.attachments[path]?.device
        }
        guard await answered(guest, limit) else { return false }
        device?.cancelAll()
        return true
    }

    private func answered(_ guest: String, _ limit: Duration) async -> Bool {
        switch state.withLock({ $0.channels[guest]?.state == .open ? $0.answers[guest] ?? .yes : .yes }) {
        case .yes: return true
        case .no: return false
        case .never:
            // Not even a cancellation hurries it: the caller must not rely on that.
            await Task { try? await Task.sleep(for: limit) }.value
            return false
        }
    }
}
