// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VUSBCore

/// What all channels of a tree share: their events and their timer.
///
/// Concurrency model: all fields are constants, which any thread may use.
final class HCDChannels: Sendable {
    /// Events kept for a control plane that is slow; guests can cause as many as they want.
    private static let eventLimit = 4096

    let clock = HCDClock()
    let stream: AsyncStream<HCDChannelEvent>
    let events: AsyncStream<HCDChannelEvent>.Continuation

    init() {
        (stream, events) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(Self.eventLimit))
    }
}

/// The control plane's side of the channel to a guest's module (Channel.md).
extension NodeTree {
    /// The file `hcd` appears in the guest's directory, and devices attached from now on, and those attached already,
    /// are told of in it.
    package func openChannel(of guest: String) {
        let channel = HCDChannel(guest: guest, events: channels.events)
        state.withLock { state in
            state.change(guest) { guest in
                guard guest.channel == nil else { return }
                guest.channel = channel
                for serial in guest.attachments.keys.sorted() {
                    guard let entry = guest.attachments[serial]?.entry else { continue }
                    channel.attach(path: entry.path, entry.device)
                }
            }
        }
    }

    /// The file vanishes; the channel is closed under whoever has it open.
    package func closeChannel(of guest: String) {
        let channel = state.withLock { state -> HCDChannel? in
            var channel: HCDChannel?
            state.change(guest) { channel = $0.channel.take() }
            return channel
        }
        channel?.shut()
    }

    /// Nil where the guest has none.
    package func channelStatus(of guest: String) -> HCDChannelStatus? { channel(of: guest)?.status }

    /// What happens on all guests' channels, in order. Called once.
    package func channelEvents() -> AsyncStream<HCDChannelEvent> { channels.stream }

    /// Has the guest hold back URBs for the device (nil: for all) and waits for its answer.
    /// - Returns: whether it answered in time; true as well where nobody has the channel open.
    package func quiesce(path: String?, of guest: String, for limit: Duration) async -> Bool {
        await channel(of: guest)?.quiesce(path: path, for: limit) ?? true
    }

    /// Ends `quiesce`, for the device or for all. The answer isn't waited for.
    package func resume(path: String?, of guest: String) { channel(of: guest)?.resume(path: path) }

    /// Has the guest let go of the device and waits until it has. Orderly: its drivers finish first.
    /// - Returns: whether it has let go in time; true as well where nobody has the channel open. A device that it keeps
    ///   beyond that, and lets go of later without being taken away, is added anew.
    package func withdraw(path: String, from guest: String, orderly: Bool, for limit: Duration) async -> Bool {
        await channel(of: guest)?.withdraw(path: path, orderly: orderly, for: limit) ?? true
    }

    func channel(of guest: String) -> HCDChannel? { state.withLock { $0.guest(named: guest)?.channel } }

    /// Nil where there is none (any more).
    func channel(of node: NodeID) -> HCDChannel? { state.withLock { $0.guests[node.owner]?.channel } }
}
