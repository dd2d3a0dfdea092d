// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VUSBCore

/// A device as one opener of a channel knows it, by its handle. The states are those of Channel.md.
struct HCDDevice: Sendable {
    enum Removal: Sendable {
        case none
        case orderly
        case now
    }

    enum Hold: Sendable, Equatable {
        case none
        /// The answer to this id hasn't come.
        case quiescing(UInt64)
        case quiet
    }

    let device: VirtualDevice
    var removal = Removal.none
    var hold = Hold.none
    var isResetting = false
    /// Slots that are its.
    var urbs = 0
    /// Who waits for its `VUSB_REMOVED`.
    var waiters: [UInt64] = []

    init(_ device: VirtualDevice) { self.device = device }
}

/// The devices of a session by their handles, which only grow. A sorted array: a value in a `Dictionary` is changed in
/// place by way of a coroutine whose frame is allocated each time.
struct HCDDevices: Sendable {
    private var entries: [(handle: UInt16, device: HCDDevice)] = []

    var count: Int { entries.count }
    var handles: [UInt16] { entries.map(\.handle) }

    subscript(handle: UInt16) -> HCDDevice? {
        get { index(of: handle).map { entries[$0].device } }
        set {
            let found = index(of: handle)
            switch (found, newValue) {
            case (let index?, let device?): entries[index].device = device
            case (let index?, nil): entries.remove(at: index)
            case (nil, let device?): entries.insert((handle, device), at: firstIndex(from: handle))
            case (nil, nil): break
            }
        }
    }

    /// The device has so many more URBs; nothing where there is no such device.
    mutating func addURBs(_ count: Int, to handle: UInt16) {
        if let index = index(of: handle) { entries[index].device.urbs += count }
    }

    mutating func removeAll() { entries.removeAll() }

    private func index(of handle: UInt16) -> Int? {
        let index = firstIndex(from: handle)
        return index < entries.count && entries[index].handle == handle ? index : nil
    }

    private func firstIndex(from handle: UInt16) -> Int {
        var (low, high) = (0, entries.count)
        while low < high {
            let middle = (low + high) / 2
            if entries[middle].handle < handle { low = middle + 1 } else { high = middle }
        }
        return low
    }
}

/// Answers of a guest that tasks of the control plane wait for.
///
/// Concurrency model: any thread answers, any task waits; all state is in one `Mutex`, a leaf, and waiters are resumed
/// outside of it.
final class HCDAnswers: Sendable {
    private enum Entry {
        case expected
        case answered
        case waiting(CheckedContinuation<Void, Never>)
    }

    private struct State {
        var entries: [UInt64: Entry] = [:]
        var isOver = false
    }

    private let state = Mutex(State())

    /// To be called before the guest can answer.
    func expect(_ key: UInt64) {
        state.withLock { $0.entries[key] = $0.isOver ? .answered : .expected }
    }

    func answer(_ key: UInt64) {
        let waiter: CheckedContinuation<Void, Never>? = state.withLock { state in
            switch state.entries[key] {
            case .expected:
                state.entries[key] = .answered
                return nil
            case .waiting(let continuation):
                state.entries[key] = .answered
                return continuation
            case .answered, nil: return nil
            }
        }
        waiter?.resume()
    }

    /// Nobody is left to answer: whatever is asked counts as answered.
    func end() {
        let keys = state.withLock { state in
            state.isOver = true
            return Array(state.entries.keys)
        }
        for key in keys { answer(key) }
    }

    /// - Returns: whether it was answered in time. The key is forgotten.
    func wait(for key: UInt64, limit: Duration) async -> Bool {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.arrive(key) }
            group.addTask {
                // A cancelled sleep only means that the other child was first.
                try? await Task.sleep(for: limit)
            }
            await group.next()
            group.cancelAll()
        }
        let last = state.withLock { $0.entries.removeValue(forKey: key) }
        return if case .answered = last { true } else { false }
    }

    private func arrive(_ key: UInt64) async {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isThere = state.withLock { state in
                    guard case .expected = state.entries[key], !Task.isCancelled else { return true }
                    state.entries[key] = .waiting(continuation)
                    return false
                }
                if isThere { continuation.resume() }
            }
        } onCancel: {
            let waiter: CheckedContinuation<Void, Never>? = state.withLock { state in
                guard case .waiting(let continuation) = state.entries[key] else { return nil }
                state.entries[key] = .expected
                return continuation
            }
            waiter?.resume()
        }
    }
}
