// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl
internal import VUSBFileSystem

/// What happens on the channels to guests' modules.
extension ControlPlane {
    func listenToChannels() {
        let stream = tree.channelEvents()
        pumps.append(
            Task {
                for await event in stream { self.handle(event) }
            }
        )
    }

    /// Nothing is taken from a guest here: the front ends what was in flight, and adds its devices anew at the next
    /// hello. What is told is limited: a guest may open and close its file as often as it likes.
    private func handle(_ event: HCDChannelEvent) {
        if case .opened = event.kind { helloGates[event.guest]?.open() }
        tellOfChannel(event.guest, Self.text(event.kind))
    }

    /// As often as a guest may cause it.
    func tellOfChannel(_ guest: String, _ text: String) {
        guard guestRegistry[guest] != nil else { return }
        guard let suppressed = channelNews[guest, default: EventAllowance()].take(.now) else { return }
        let more = suppressed > 0 ? " (\(suppressed) more since the last one)" : ""
        emit(.guestChannel, guest: guest, detail: text + more)
    }

    private static func text(_ kind: HCDChannelEvent.Kind) -> String {
        switch kind {
        case .opened(let peer): "open: hello from \(quoted(peer))"
        case .oneAtATime: "slow: its exporter serves one request at a time"
        case .closed: "closed"
        case .broken(let rule): "broken: \(rule)"
        }
    }
}

/// How many events somebody outside may cause: so many at once, and then one each while.
struct EventAllowance: Sendable {
    static let burst = 16
    static let interval = Duration.seconds(1)

    private var left = Self.burst
    private var since: ContinuousClock.Instant?
    private var suppressed = 0

    /// - Returns: how many were kept back since the last one that was told; nil where this one isn't to be told.
    mutating func take(_ now: ContinuousClock.Instant) -> Int? {
        let begin = since ?? now
        let earned = min(Self.burst, Int((now - begin) / Self.interval))
        left = min(Self.burst, left + earned)
        since = left == Self.burst ? now : begin + Self.interval * earned
        guard left > 0 else {
            suppressed += 1
            return nil
        }
        left -= 1
        defer { suppressed = 0 }
        return suppressed
    }
}
