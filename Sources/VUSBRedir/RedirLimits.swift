// SPDX-License-Identifier: Apache-2.0

/// What a peer may have of this host at once. Redirect.md says what happens beyond it.
enum RedirLimits {
    /// URBs of one connection: those in flight and those whose answer hasn't been sent.
    static let urbs = 512
    /// Answers of one endpoint that wait for an earlier one's; beyond it the connection is closed.
    static let waitingAnswers = 4096
    /// Bytes of one message of the peer, header and data: beyond it the connection is closed.
    static let message = 16 << 20
    /// Bytes that wait to be sent: above the first nothing more is read and streams pause, until it's below the other.
    static let outboxHigh = 4 << 20
    static let outboxLow = 1 << 20
    /// Bytes of what is received at once.
    static let receiveBuffer = 64 << 10
    /// Buffers that go into one sendmsg(2).
    static let vectors = 64
    /// Packets that an isochronous stream may have in flight.
    static let isochronousPackets = 1024
    /// Transfers in flight on an interrupt endpoint, so that no report waits for the host.
    static let interruptTransfers = 4
    /// Transfers of a bulk endpoint that is received ahead.
    static let bulkTransfers = 32
    /// Bytes of one of them.
    static let bulkTransfer = 512 << 10
    /// A stream that fails so many times without a success between is stopped.
    static let streamFailures = 16
    /// Bytes of an isochronous OUT stream's URBs.
    static let isochronousBytes = 8 << 20
    /// What a connection may say before the others have their turn.
    static let turnBytes = 1 << 20
    static let turnMessages = 256
}
