// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VUSBCore

/// The calls into guests that somebody waits for. A value without a lock of its own; `ControlPlane` guards it.
struct GuestCalls {
    private var calls: [String: [Int: @Sendable (USBError) -> Void]] = [:]
    private var nextID = 1

    /// - Parameter giveUp: ends the wait with this error.
    mutating func add(_ guest: String, _ giveUp: @escaping @Sendable (USBError) -> Void) -> Int {
        defer { nextID += 1 }
        calls[guest, default: [:]][nextID] = giveUp
        return nextID
    }

    mutating func remove(_ id: Int, of guest: String) { calls[guest]?[id] = nil }

    func giveUp(_ guest: String, _ error: USBError) {
        for giveUp in calls[guest, default: [:]].values { giveUp(error) }
    }

    func giveUpAll(_ error: USBError) { for guest in calls.keys { giveUp(guest, error) } }
}

/// The first answer of several that may come, and the one who waits for it.
///
/// Concurrency model: any thread gives, one task waits. The state is in one `Mutex`, a leaf; the continuation is
/// resumed outside it, once.
final class FirstAnswer<Value: Sendable>: Sendable {
    private enum State {
        case open
        case awaited(CheckedContinuation<Value, Never>)
        case given(Value)
    }

    private let state = Mutex(State.open)

    /// All but the first are dropped.
    func give(_ value: Value) {
        let waiter = state.withLock { state -> CheckedContinuation<Value, Never>? in
            switch state {
            case .given: return nil
            case .open:
                state = .given(value)
                return nil
            case .awaited(let continuation):
                state = .given(value)
                return continuation
            }
        }
        waiter?.resume(returning: value)
    }

    /// One waiter only.
    var value: Value {
        get async {
            await withCheckedContinuation { continuation in
                let given = state.withLock { state -> Value? in
                    if case .given(let value) = state { return value }
                    state = .awaited(continuation)
                    return nil
                }
                if let given { continuation.resume(returning: given) }
            }
        }
    }
}

extension ControlPlane {
    /// Calls into a guest, or waits for it. The answer comes at the latest after `limit`, and at once when the guest is
    /// gone, whatever the call does: nothing on the host depends on a guest's good will.
    ///
    /// When the operation is cancelled the call is, too, and its end is waited for: what it was doing it undoes first.
    func ask<Value: Sendable>(
        _ guest: String, for limit: Duration, _ call: @escaping @Sendable () async throws(USBError) -> Value
    ) async -> Result<Value, USBError> {
        guard guestRegistry[guest]?.isGone == false else { return .failure(Self.gone(guest)) }
        let answer = FirstAnswer<Result<Value, USBError>>()
        let worker = Task {
            do throws(USBError) {
                answer.give(.success(try await call()))
            } catch {
                answer.give(.failure(error))
            }
        }
        let alarm = Task {
            // A cancelled sleep only means that there is an answer.
            try? await Task.sleep(for: limit)
            answer.give(.failure(Self.silent(guest, limit)))
        }
        let id = guestCalls.add(guest) { answer.give(.failure($0)) }
        let result = await withTaskCancellationHandler {
            await answer.value
        } onCancel: {
            worker.cancel()
        }
        guestCalls.remove(id, of: guest)
        alarm.cancel()
        worker.cancel()
        return result
    }

    static func gone(_ guest: String) -> USBError {
        USBError(.gone, "guest \(guest) went off", remedy: "load it again when it runs")
    }

    private static func silent(_ guest: String, _ limit: Duration) -> USBError {
        USBError(
            .timedOut,
            "guest \(guest) didn't answer within \(limit.inSeconds) s",
            remedy: "see whether it runs, and its guest agent in it"
        )
    }
}
