// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// What happened, in order, and a way to wait for more of it without sleeping.
///
/// Concurrency model: any thread appends, any task waits. All state is in one `Mutex`, a leaf; waiters are resumed
/// outside of it.
package final class Inbox<Element: Sendable>: Sendable {
    private struct Waiter {
        let count: Int
        let continuation: CheckedContinuation<Void, Never>
    }

    private struct State {
        var elements: [Element] = []
        var waiters: [Int: Waiter] = [:]
        var nextWaiter = 0

        mutating func takeReady() -> [Waiter] {
            let ready = waiters.filter { $0.value.count <= elements.count }
            for key in ready.keys { waiters[key] = nil }
            return Array(ready.values)
        }
    }

    private let state = Mutex(State())

    package init() {}

    package var elements: [Element] { state.withLock { $0.elements } }
    package var count: Int { state.withLock { $0.elements.count } }

    package func append(_ element: Element) {
        let ready = state.withLock { state in
            state.elements.append(element)
            return state.takeReady()
        }
        for waiter in ready { waiter.continuation.resume() }
    }

    /// Waits until there are `count` in all, and returns all that there are: fewer only where `limit` is over. It's
    /// long because it only matters to a test that fails.
    @discardableResult
    package func wait(for count: Int, within limit: Duration = .seconds(20)) async -> [Element] {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.arrive(count) }
            group.addTask {
                // A cancelled sleep only means that the other child was first.
                try? await Task.sleep(for: limit)
            }
            await group.next()
            group.cancelAll()
        }
        return elements
    }

    private func arrive(_ count: Int) async {
        let id = state.withLock { state in
            state.nextWaiter += 1
            return state.nextWaiter
        }
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isThere = state.withLock { state in
                    guard state.elements.count < count, !Task.isCancelled else { return true }
                    state.waiters[id] = Waiter(count: count, continuation: continuation)
                    return false
                }
                if isThere { continuation.resume() }
            }
        } onCancel: {
            state.withLock { $0.waiters.removeValue(forKey: id) }?.continuation.resume()
        }
    }
}
