// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// What a peer may have of this host at once. USBIP.md says what happens beyond it.
enum USBIPLimits {
    /// URBs of one session in flight, with those whose answer isn't in the batch yet.
    static let urbs = 1024
    /// Bytes that they ask for, and of one transfer.
    static let bytes = VirtualDevice.bytesInFlightLimit
    /// Bytes that wait to be sent: above the second nothing is read until it's below the first.
    static let outboxLow = 1 << 20
    static let outboxHigh = 4 << 20
    /// Connections of a listener that import nothing.
    static let waiting = 64
    /// Of what is received at once, before an import and after it.
    static let requestBuffer = 1 << 10
    static let receiveBuffer = 128 << 10
    /// IN transfers from here on have memory that is their answer at the same time.
    static let memory = 8 << 10
    /// Bytes of such memory that a session keeps for reuse.
    static let memoryKept = 8 << 20
    /// Commands that are carried out before what has ended meanwhile is answered.
    static let turn = 16
    /// Answers that are due, while it isn't the loop's turn: from here on it reads no more.
    static let due = 4096
    /// How often a source's thread looks for more to answer: it has other devices' URBs to complete.
    static let sourceRounds = 2
}

/// How long this host waits for a peer.
package struct USBIPPatience: Sendable {
    /// For an import, since the accept.
    package var request: Duration = .seconds(10)
    /// For a byte to be taken, where some wait.
    package var reading: Duration = .seconds(12)
    /// Between two looks at that.
    package var look: Duration = .seconds(3)
    /// For the URBs of a session that has ended.
    package var ending: Duration = .seconds(5)
    /// Between two reports of refused connections.
    package var report: Duration = .seconds(1)

    package init() {}
}
