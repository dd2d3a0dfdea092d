// SPDX-License-Identifier: Apache-2.0

internal import Dispatch
internal import Glibc
internal import Synchronization

/// The client's end of a Unix stream socket whose other side speaks in lines.
///
/// It reads only while somebody waits for a line: a peer that nobody listens to can't make it work or grow, its bytes
/// stay in the kernel's buffer until that is full.
///
/// Concurrency model: any thread. All state is in `Core`, which only its serial queue touches.
/// Continuations are resumed from that queue, each once.
final class LineSocket: Sendable {
    enum Failure: Error, Equatable {
        /// The peer closed it, or it was closed here.
        case closed
        case timedOut
        /// The waiting task was cancelled.
        case cancelled
        /// A call failed with this errno.
        case failed(Int32)
    }

    typealias Line = LineSplitter.Line

    private let core: Core
    private let queue: DispatchQueue
    private let lastTicket = Atomic<Int>(0)

    /// Connects; that never waits for the other side.
    /// - Parameter lineLimit: bytes; a longer line arrives as `overlong`.
    /// - Throws: `failed`: ENOENT, ECONNREFUSED, EACCES, ENAMETOOLONG; EAGAIN where too many others wait already.
    init(path: String, lineLimit: Int) throws(Failure) {
        let descriptor = try UnixStream.connect(path)
        queue = DispatchQueue(label: "vusb.line-socket")
        core = Core(descriptor: descriptor, lineLimit: lineLimit, queue: queue)
    }

    deinit { close() }

    /// Sends the bytes, as soon as the peer takes them. A failure shows as that of the next line.
    func send(_ bytes: [UInt8]) { queue.async { [core] in core.send(bytes) } }

    /// Waits for a line; one caller at a time.
    func next(within limit: Duration?) async throws(Failure) -> Line {
        let ticket = lastTicket.add(1, ordering: .relaxed).newValue
        let result = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                queue.async { [core] in core.wait(ticket, continuation) }
                guard let limit else { return }
                queue.asyncAfter(deadline: .now() + limit.dispatchInterval) { [weak core] in
                    core?.giveUp(ticket, .timedOut)
                }
            }
        } onCancel: {
            queue.async { [core] in core.giveUp(ticket, .cancelled) }
        }
        return try result.get()
    }

    /// How the peer is, while nobody waits for a line.
    enum Peer {
        case quiet
        /// It has said something that nobody has fetched.
        case talking
        case gone
    }

    func peer() async -> Peer {
        await withCheckedContinuation { continuation in
            queue.async { [core] in continuation.resume(returning: core.peer) }
        }
    }

    func close() { queue.async { [core] in core.end(.closed) } }
}

extension Duration {
    /// Rounded down to microseconds.
    var dispatchInterval: DispatchTimeInterval {
        let (seconds, attoseconds) = components
        let microseconds = Int(clamping: seconds).multipliedReportingOverflow(by: 1_000_000)
        guard !microseconds.overflow else { return .never }
        return .microseconds(microseconds.partialValue + Int(attoseconds / 1_000_000_000_000))
    }
}

// MARK: - On the queue

extension LineSocket {
    /// Concurrency model: touched on `queue` only, apart from `init` and `deinit`, when nobody else has it.
    fileprivate final class Core: @unchecked Sendable {
        typealias Continuation = CheckedContinuation<Result<Line, Failure>, Never>

        /// Bytes that may wait for the peer to take them.
        private static let outboxLimit = 4 << 20

        // SAFETY: see the concurrency model; the queue keeps it true.
        private let descriptor: Int32
        private let queue: DispatchQueue
        private var splitter: LineSplitter
        private var waiter: (ticket: Int, continuation: Continuation)?
        /// The highest ticket given up; a cancellation may come before its wait.
        private var givenUp: (ticket: Int, failure: Failure) = (0, .closed)
        private var outbox: [UInt8] = []
        /// Both are there only while something is waited for, and have descriptors of their own.
        private var readable: (any DispatchSourceProtocol)?
        private var writable: (any DispatchSourceProtocol)?
        private var failure: Failure?

        init(descriptor: Int32, lineLimit: Int, queue: DispatchQueue) {
            self.descriptor = descriptor
            self.queue = queue
            splitter = LineSplitter(limit: lineLimit)
        }

        deinit { if failure == nil { release() } }

        var peer: Peer {
            guard failure == nil else { return .gone }
            return splitter.isEmpty ? UnixStream.peer(descriptor) : .talking
        }

        func wait(_ ticket: Int, _ continuation: Continuation) {
            if givenUp.ticket >= ticket { return continuation.resume(returning: .failure(givenUp.failure)) }
            precondition(waiter == nil, "two callers wait for a line")
            waiter = (ticket, continuation)
            deliver()
        }

        func giveUp(_ ticket: Int, _ reason: Failure) {
            if ticket > givenUp.ticket { givenUp = (ticket, reason) }
            guard let waiter, waiter.ticket == ticket else { return }
            answer(.failure(reason))
        }

        private func answer(_ result: Result<Line, Failure>) {
            stopListening()
            let continuation = waiter?.continuation
            waiter = nil
            continuation?.resume(returning: result)
        }

        /// Gives the waiter a line that is there, or the failure when none is; else gets more.
        private func deliver() {
            guard waiter != nil else { return }
            if let line = splitter.next() {
                answer(.success(line))
            } else if let failure {
                answer(.failure(failure))
            } else {
                receive()
            }
        }

        private func receive() {
            switch UnixStream.receive(descriptor) {
            case .success(let bytes) where bytes.isEmpty: end(.closed)
            case .success(let bytes):
                splitter.append(bytes)
                // A turn each, so that a peer that never stops can't keep a time-out from coming.
                queue.async { self.deliver() }
            case .failure(.failed(EAGAIN)): listen()
            case .failure(let failure): end(failure)
            }
        }

        private func listen() {
            guard readable == nil else { return }
            guard let copy = copyDescriptor() else { return }
            let source = DispatchSource.makeReadSource(fileDescriptor: copy, queue: queue)
            source.setCancelHandler { Glibc.close(copy) }
            source.setEventHandler { [weak self] in
                self?.stopListening()
                self?.deliver()
            }
            source.activate()
            readable = source
        }

        private func stopListening() {
            readable?.cancel()
            readable = nil
        }

        /// For a source, which closes it when it's cancelled; nil where none is left, which ends the connection.
        private func copyDescriptor() -> Int32? {
            let copy = fcntl(descriptor, F_DUPFD_CLOEXEC, 0)
            guard copy >= 0 else {
                end(.failed(errno))
                return nil
            }
            return copy
        }

        /// What had arrived whole is still delivered.
        func end(_ reason: Failure) {
            guard failure == nil else { return }
            release()
            failure = reason
            deliver()
        }

        private func release() {
            stopListening()
            writable?.cancel()
            writable = nil
            outbox = []
            // The peer sees the end now, not when the sources have closed their copies.
            shutdown(descriptor, Int32(SHUT_RDWR))
            Glibc.close(descriptor)
        }
    }
}

// MARK: - Sending

extension LineSocket.Core {
    func send(_ bytes: [UInt8]) {
        guard failure == nil else { return }
        guard outbox.count + bytes.count <= Self.outboxLimit else { return end(.failed(ENOBUFS)) }
        outbox += bytes
        flush()
    }

    private func flush() {
        guard failure == nil else { return }
        while !outbox.isEmpty {
            switch UnixStream.send(descriptor, outbox) {
            case .success(let count): outbox.removeFirst(count)
            case .failure(.failed(EAGAIN)): return waitForRoom()
            // What the peer said before it went is worth more: a reader finds the end by itself.
            case .failure(.failed(EPIPE)): outbox = []
            case .failure(let failure): return end(failure)
            }
        }
        writable?.cancel()
        writable = nil
    }

    private func waitForRoom() {
        guard writable == nil else { return }
        guard let copy = copyDescriptor() else { return }
        let source = DispatchSource.makeWriteSource(fileDescriptor: copy, queue: queue)
        source.setCancelHandler { Glibc.close(copy) }
        source.setEventHandler { [weak self] in self?.flush() }
        source.activate()
        writable = source
    }
}
