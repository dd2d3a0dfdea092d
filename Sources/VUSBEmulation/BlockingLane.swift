// SPDX-License-Identifier: Apache-2.0

import Synchronization
import VUSBCore

/// Jobs of one device that may block, with their URBs, and whether it has a thread for them now.
struct BlockingLane<Model: DeviceModel>: ~Copyable {
    typealias PendingJob = DeviceState<Model>.PendingJob

    private var items = URBQueue()
    /// As many as `items`, in the same order.
    private var jobs: [PendingJob] = []
    private var hasThread = false

    init() {}

    /// A job and its URB.
    struct Entry: ~Copyable, Sendable {
        let item: QueuedURB
        let pending: PendingJob
    }

    /// True where a thread has to be started.
    mutating func add(_ item: consuming QueuedURB, _ pending: PendingJob) -> Bool {
        items.append(item)
        jobs.append(pending)
        defer { hasThread = true }
        return !hasThread
    }

    mutating func takeFirst() -> Entry? {
        guard let item = items.removeFirst() else { return nil }
        return Entry(item: item, pending: jobs.removeFirst())
    }

    /// True where there's nothing to do, and the thread is one no longer.
    mutating func stopIfIdle() -> Bool {
        if items.isEmpty { hasThread = false }
        return items.isEmpty
    }
}
