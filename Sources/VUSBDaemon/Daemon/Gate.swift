// SPDX-License-Identifier: Apache-2.0

/// Something that happens once, and those who wait for it; they also go on when they are cancelled.
///
/// Concurrency model: the stream's own.
struct Gate: Sendable {
    private let stream: AsyncStream<Void>
    private let continuation: AsyncStream<Void>.Continuation

    init() { (stream, continuation) = AsyncStream.makeStream(of: Void.self) }

    func open() { continuation.finish() }

    /// One waiter only.
    func wait() async { for await _ in stream {} }
}
