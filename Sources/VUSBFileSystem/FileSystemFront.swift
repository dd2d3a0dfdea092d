// SPDX-License-Identifier: Apache-2.0

internal import CFuse3
internal import Glibc
package import Logging
internal import Synchronization
package import VUSBCore

/// /vusb: a FUSE session and the threads that read its requests.
///
/// Every answer that has to wait is asynchronous, so reader threads never block and few serve all (Threads.md).
///
/// Concurrency model: `start`, `stop` and `ended` belong to the control plane; the session's life is in one `Mutex`.
/// Reader threads touch the session only through libfuse, which locks for itself.
@safe
package final class FileSystemFront: Sendable {
    package struct Options: Sendable {
        package var mountPoint: String
        /// Reader threads, 1-64.
        package var readers: Int

        package init(mountPoint: String, readers: Int = 1) {
            self.mountPoint = mountPoint
            self.readers = min(max(1, readers), 64)
        }
    }

    private struct State: ~Copyable {
        var readers: [ReaderThread] = []
        var running = 0
        var isStopping = false
        var isClosed = false
        var waiters: [CheckedContinuation<Void, Never>] = []
    }

    private let options: Options
    private let session: SessionHandle
    private let requests: FileSystemRequests
    /// Request buffers are large; those of eight writers at once are kept.
    private let pool = BufferPool(cacheLimit: 32 << 20)
    private let logger: Logger
    private let state = Mutex(State())

    /// Mounts, with `dev` only where `tree` has its character nodes served; a mount that a killed daemon left at the mount
    /// point is cleared first.
    ///
    /// - Throws: what is missing or in the way, with the remedy.
    package init(options: Options, tree: NodeTree, logger: Logger) throws(USBError) {
        self.options = options
        self.logger = logger
        requests = FileSystemRequests(tree: tree)
        try MountPoint.prepare(options.mountPoint, logger: logger)
        session = try SessionHandle(mountPoint: options.mountPoint, characterNodes: tree.characterNodes)
    }

    /// Starts the reader threads. Called once. Fewer than asked for serve as well, only one must be had.
    ///
    /// - Throws: `io` where no thread is to be had; `stop` then unmounts as ever.
    package func start() throws(USBError) {
        var failure: USBError?
        for number in 0..<options.readers {
            let reader = ReaderThread(
                number: number,
                session: session,
                context: ReaderContext(requests: requests, requestBuffer: RequestBuffer(pool: pool)),
                onEnd: { [weak self] in self?.readerEnded() }
            )
            state.withLock { state in
                state.readers.append(reader)
                state.running += 1
            }
            do {
                try reader.start()
            } catch {
                failure = error
                state.withLock { state in
                    state.readers.removeLast()
                    state.running -= 1
                }
                logger.error("\(error)")
                break
            }
        }
        let count = state.withLock { $0.readers.count }
        if count == 0, let failure { throw failure }
        logger.info("mounted \(options.mountPoint), reader threads: \(count)")
    }

    /// Unmounts and ends the threads. Requests still unanswered end with ENODEV. Idempotent.
    ///
    /// All devices must be closed by then: a URB that completes later would answer into a session that is gone.
    package func stop() async {
        let readers = state.withLock { state in
            state.isStopping = true
            return state.readers
        }
        while state.withLock({ $0.running > 0 }) {
            for reader in readers { reader.wake() }
            // A reader may be just about to read when it is woken; so it is woken until it has ended.
            try? await Task.sleep(for: .milliseconds(2))
        }
        let isMine = state.withLock { state in
            defer { state.isClosed = true }
            return !state.isClosed
        }
        guard isMine else { return }
        requests.abandon()
        session.close()
        logger.info("unmounted \(options.mountPoint)")
    }

    /// Returns when the session is over: after `stop`, or when somebody unmounted it.
    package func ended() async {
        await withCheckedContinuation { continuation in
            let isOver = state.withLock { state in
                if state.running == 0 && !state.readers.isEmpty { return true }
                state.waiters.append(continuation)
                return false
            }
            if isOver { continuation.resume() }
        }
    }

    private func readerEnded() {
        let waiters = state.withLock { state in
            state.running -= 1
            guard state.running == 0 else { return [CheckedContinuation<Void, Never>]() }
            defer { state.waiters = [] }
            return state.waiters
        }
        for waiter in waiters { waiter.resume() }
    }
}
