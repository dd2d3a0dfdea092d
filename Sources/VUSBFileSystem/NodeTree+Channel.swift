// SPDX-License-Identifier: Apache-2.0

/// The control plane's side of the channel to a guest's module (Channel.md).
extension NodeTree {
    /// The file `hcd` appears in the guest's directory, and devices attached from now on, and those attached already,
    /// are told of in it.
    package func openChannel(of guest: String) {}

    /// The file vanishes; the channel is closed under whoever has it open.
    package func closeChannel(of guest: String) {}

    /// Nil where the guest has none.
    package func channelStatus(of guest: String) -> HCDChannelStatus? { nil }

    /// What happens on all guests' channels, in order. Called once.
    package func channelEvents() -> AsyncStream<HCDChannelEvent> { AsyncStream { $0.finish() } }

    /// Has the guest hold back URBs for the device (nil: for all) and waits for its answer.
    /// - Returns: whether it answered in time; true as well where nobody has the channel open.
    package func quiesce(path: String?, of guest: String, for limit: Duration) async -> Bool { true }

    /// Ends `quiesce`, for the device or for all. The answer isn't waited for.
    package func resume(path: String?, of guest: String) {}

    /// Has the guest let go of the device and waits until it has. Orderly: its drivers finish first.
    /// - Returns: whether it has let go in time; true as well where nobody has the channel open.
    package func withdraw(path: String, from guest: String, orderly: Bool, for limit: Duration) async -> Bool { true }
}
