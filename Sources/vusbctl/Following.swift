// SPDX-License-Identifier: Apache-2.0

import Dispatch
import Glibc
import VUSBControl

/// Follows a long operation to its end: each step on stderr as it comes; ^C asks the daemon to cancel it and waits for
/// its answer, a second ^C leaves at once.
struct Following {
    var client: ControlClient
    var options: CommonOptions

    func finish(_ operation: OperationInfo) async throws {
        let ended: OperationInfo
        var wasInterrupted = false
        (ended, wasInterrupted) = try await end(of: operation)
        if options.json { try Output.json(ended) }
        guard ended.state != .succeeded else { return }
        if ended.state == .cancelled, wasInterrupted { throw Failure(.cancelled, "cancelled") }
        let problem = ended.error ?? Problem(ended.state == .cancelled ? .cancelled : .failed, "\(ended.kind) failed")
        throw Failure(problem)
    }

    private enum News: Sendable {
        case ended(OperationInfo)
        case broken(any Error)
        case interrupted
    }

    private func end(of operation: OperationInfo) async throws -> (OperationInfo, wasInterrupted: Bool) {
        let progress = Progress(isOnTerminal: Output.errorsAreOnTerminal)
        let (news, feed) = AsyncStream<News>.makeStream()
        let interrupts = Interrupts { feed.yield(.interrupted) }
        let client = client
        let following = Task {
            do {
                feed.yield(.ended(try await client.follow(operation) { await progress.show($0) }))
            } catch {
                feed.yield(.broken(error))
            }
        }
        defer {
            following.cancel()
            interrupts.cancel()
        }
        var count = 0
        for await item in news {
            await progress.end()
            switch item {
            case .ended(let operation): return (operation, count > 0)
            case .broken(let error): throw error
            case .interrupted:
                count += 1
                guard count == 1 else { throw Self.left(operation) }
                Output.complain("cancelling; ^C again leaves without waiting")
                try await cancel(operation)
            }
        }
        throw Self.left(operation)
    }

    private func cancel(_ operation: OperationInfo) async throws {
        do {
            _ = try await client.cancelOperation(operation.id)
        } catch let problem as Problem where problem.code == .conflict {
            // It ended meanwhile: the task that follows it says how.
        }
    }

    private static func left(_ operation: OperationInfo) -> Failure {
        Failure(.cancelled, "operation \(operation.id) goes on; see 'vusbctl operations'")
    }
}

/// SIGINT as a call instead of death, until it's cancelled.
private struct Interrupts {
    private let source: any DispatchSourceSignal

    init(_ handler: @escaping @Sendable () -> Void) {
        signal(SIGINT, SIG_IGN)
        source = DispatchSource.makeSignalSource(signal: SIGINT, queue: .global())
        source.setEventHandler(handler: handler)
        // Who has seen a step may interrupt at once: until it's registered a signal would be lost.
        let registered = DispatchSemaphore(value: 0)
        source.setRegistrationHandler { registered.signal() }
        source.activate()
        registered.wait()
    }

    func cancel() {
        source.cancel()
        signal(SIGINT, SIG_DFL)
    }
}
