// SPDX-License-Identifier: Apache-2.0

import VUSBCore

/// All that changes in an emulated device. A value without a lock of its own: `EmulatedDevice` guards it and does,
/// step by step and outside the lock, what `next` says.
struct DeviceState<Model: DeviceModel>: ~Copyable {
    /// Whether somebody has it open.
    enum Presence {
        case free
        case open
        /// `close` waits for what is under way.
        case closing
        case unplugged
    }

    /// What is to be done without the lock.
    enum Step: ~Copyable, Sendable {
        case idle
        /// Needs the time; ask again with it.
        case readClock
        /// Give it back, then ask again with this endpoint as the finished one.
        case giveBack(QueuedURB, URBStatus, endpoint: Int)
        /// End the first with `shutdown`, then give back the second.
        case shutDown(URBQueue, QueuedURB)
        case perform(QueuedURB, PendingJob)
        /// Nothing is on its way any more: tell those who wait for that.
        case tell([CheckedContinuation<Void, Never>])
    }

    /// What becomes of a URB whose job is done.
    enum Outcome: ~Copyable, Sendable {
        /// Give it back; its endpoint is finished then.
        case giveBack(QueuedURB, URBStatus)
        case perform(QueuedURB, PendingJob)
        /// It waits again at the head of its endpoint, which is finished.
        case wait
    }

    /// Work without the lock, and what it belongs to.
    struct PendingJob: Sendable {
        let job: Model.Job
        let endpoint: Int
        /// Of the device when it began: work of an older one has nobody to go on with.
        let epoch: UInt64
    }

    let blueprint: Blueprint
    let serial: String
    var model: Model
    var presence = Presence.free
    var chapter9 = Chapter9State()
    var settings: ActiveSettings
    var halted = EndpointSet()

    /// URBs that wait, by `EndpointAddress.index`.
    var queues = InlineArray<32, URBQueue> { _ in URBQueue() }
    /// Endpoints whose head may be able to go on.
    var ready = EndpointSet()
    /// Endpoints that a thread is giving back a URB of: nobody else serves them, which keeps their order.
    private var served = EndpointSet()
    /// URBs that were taken out and not yet given back.
    var underWay = 0
    private var quiescent: [CheckedContinuation<Void, Never>] = []
    var epoch: UInt64 = 0
    /// Interrupt and isochronous endpoints: when the next interval begins.
    private var nextService = InlineArray<32, UInt64>(repeating: 0)
    private var paced = EndpointSet()
    /// The earliest time to be woken at that hasn't been scheduled yet; 0 for none.
    private var wantedAlarm: UInt64 = 0
    private var scheduledAlarm: UInt64 = 0

    init(_ blueprint: Blueprint, model: Model, serial: String) {
        self.blueprint = blueprint
        self.model = model
        self.serial = serial
        settings = ActiveSettings(blueprint.descriptors, configurationValue: 1)
        notePacedEndpoints()
    }

    // MARK: - Queues

    /// Takes a URB in; false where the device isn't there, and then it's left with the caller.
    mutating func accept(_ urb: inout QueuedURB?) -> Bool {
        guard presence == .open, let accepted = urb.take() else { return false }
        let index = accepted.urb.endpoint.number == 0 ? 0 : accepted.urb.endpoint.index
        queues[index].append(accepted)
        ready.insert(index)
        return true
    }

    /// Takes out one that waits.
    mutating func remove(_ token: URBToken) -> QueuedURB? {
        for index in 0..<32 where !queues[index].isEmpty {
            guard let found = queues[index].remove(token) else { continue }
            ready.insert(index)
            underWay += 1
            return found
        }
        return nil
    }

    /// Takes out all that wait.
    mutating func removeAll() -> URBQueue {
        var all = URBQueue()
        for index in 0..<32 { queues[index].moveAll(to: &all) }
        underWay += all.count
        return all
    }

    mutating func wake(_ endpoints: EndpointSet) { ready.formUnion(endpoints) }

    /// `count` URBs that `remove` or `removeAll` handed out have been given back.
    mutating func gaveBack(_ count: Int) {
        underWay -= count
        // A change of settings may wait there for the last that is under way.
        if !queues[0].isEmpty { ready.insert(0) }
    }

    // MARK: - Waiting for quiet

    var isQuiet: Bool { underWay == 0 }

    /// Kept until nothing is under way; false where that's so already.
    mutating func waitUntilQuiet(_ waiter: CheckedContinuation<Void, Never>) -> Bool {
        guard !isQuiet else { return false }
        quiescent.append(waiter)
        return true
    }

    /// The protocols begin anew, and work under way has nobody to return to.
    mutating func beginEpoch() {
        epoch += 1
        halted = EndpointSet()
        model.settingsChanged()
        notePacedEndpoints()
        for index in 0..<32 { nextService[index] = 0 }
    }

    private mutating func notePacedEndpoints() {
        paced = EndpointSet()
        for endpoint in settings.endpoints
        where endpoint.transferType == .interrupt || endpoint.transferType == .isochronous {
            paced.insert(endpoint.bEndpointAddress)
        }
    }

    // MARK: - Serving

    /// - Parameters:
    ///   - finished: the endpoint whose step the caller has done.
    ///   - now: nanoseconds of the monotonic clock, or 0 where the caller didn't look.
    mutating func next(finished: Int?, now: UInt64) -> Step {
        if let finished {
            served.remove(finished)
            underWay -= 1
            if !queues[0].isEmpty { ready.insert(0) }
        }
        if underWay == 0, !quiescent.isEmpty {
            defer { quiescent.removeAll() }
            return .tell(quiescent)
        }
        while let index = ready.subtracting(served).first {
            if paced.contains(index), now == 0 { return .readClock }
            ready.remove(index)
            guard let head = queues[index].removeFirst() else { continue }
            switch serve(head, index, now) {
            case .none: continue
            case .some(let step): return step
            }
        }
        return .idle
    }

    /// Marks an endpoint as one that a thread is busy with, and what waits behind as ready.
    mutating func begin(_ index: Int) {
        served.insert(index)
        underWay += 1
        if !queues[index].isEmpty { ready.insert(index) }
    }

    /// Nil where it waits on.
    private mutating func serve(_ head: consuming QueuedURB, _ index: Int, _ now: UInt64) -> Step? {
        if index == 0 { return serveControl(head) }
        guard let endpoint = settings.endpoint(head.urb.endpoint) else {
            begin(index)
            return .giveBack(head, .noEndpoint, endpoint: index)
        }
        if halted.contains(index) {
            begin(index)
            return .giveBack(head, .stall, endpoint: index)
        }
        if paced.contains(index), !isDue(&head, endpoint, now) {
            queues[index].prepend(head)
            return nil
        }
        var effects = Effects(now: now)
        let verdict = model.transfer(&head.urb, on: endpoint, moved: &head.moved, effects: &effects)
        return follow(verdict, head, endpoint, effects)
    }

    /// Does what the model decided.
    private mutating func follow(
        _ verdict: Verdict<Model.Job>,
        _ head: consuming QueuedURB,
        _ endpoint: EndpointDescriptor,
        _ effects: Effects
    ) -> Step? {
        let index = endpoint.bEndpointAddress.index
        apply(effects)
        switch verdict {
        case .wait:
            queues[index].prepend(head)
            return nil
        case .complete(let status):
            if paced.contains(index) { countIntervals(head, endpoint, effects.now) }
            begin(index)
            return .giveBack(head, status, endpoint: index)
        case .perform(let job):
            begin(index)
            return .perform(head, PendingJob(job: job, endpoint: index, epoch: epoch))
        }
    }

    mutating func apply(_ effects: Effects) {
        ready.formUnion(effects.wake)
        ready.formUnion(effects.halt)
        halted.formUnion(effects.halt)
        if effects.wakeAt > 0 { wantAlarm(effects.wakeAt) }
    }

    /// A job is done: what becomes of its URB, which is taken out of `item`.
    mutating func outcome(_ pending: PendingJob, result: Int, _ item: inout QueuedURB?) -> Outcome {
        guard let done = item.take() else { return .wait }
        return performed(pending, result: result, done)
    }

    private mutating func performed(_ pending: PendingJob, result: Int, _ item: consuming QueuedURB) -> Outcome {
        switch presence {
        case .unplugged: return .giveBack(item, .noDevice)
        case .closing, .free: return .giveBack(item, .cancelled)
        case .open: break
        }
        guard pending.epoch == epoch, let endpoint = settings.endpoint(item.urb.endpoint) else {
            return .giveBack(item, .shutdown)
        }
        var effects = Effects()
        let verdict = model.performed(
            pending.job,
            result: result,
            on: endpoint,
            &item.urb,
            moved: &item.moved,
            effects: &effects
        )
        apply(effects)
        switch verdict {
        case .complete(let status): return .giveBack(item, status)
        case .perform(let job):
            return .perform(item, PendingJob(job: job, endpoint: pending.endpoint, epoch: epoch))
        case .wait:
            queues[pending.endpoint].prepend(item)
            return .wait
        }
    }

    // MARK: - Pacing

    /// Lateness up to here is caught up with, so that the rate holds in the long run.
    private static var slack: UInt64 { 10_000_000 }

    /// Where it isn't, an alarm is set.
    private mutating func isDue(_ head: inout QueuedURB, _ endpoint: EndpointDescriptor, _ now: UInt64) -> Bool {
        let index = endpoint.bEndpointAddress.index
        let start = nextService[index] + Self.slack < now ? now : nextService[index]
        if endpoint.transferType == .isochronous, head.due == 0 {
            let interval = ServiceInterval.nanoseconds(endpoint, blueprint.speed)
            head.due = start + interval * UInt64(max(1, head.urb.packetCount))
            head.urb.startFrame = ServiceInterval.frameNumber(start, blueprint.speed)
            nextService[index] = start
        }
        let due = endpoint.transferType == .isochronous ? head.due : start
        guard due > now else { return true }
        wantAlarm(due)
        return false
    }

    private mutating func countIntervals(_ item: borrowing QueuedURB, _ endpoint: EndpointDescriptor, _ now: UInt64) {
        let index = endpoint.bEndpointAddress.index
        if endpoint.transferType == .isochronous {
            nextService[index] = item.due
            return
        }
        let perInterval = max(1, endpoint.maxBytesPerInterval)
        let intervals = UInt64(max(1, (item.moved + perInterval - 1) / perInterval))
        let start = nextService[index] + Self.slack < now ? now : nextService[index]
        nextService[index] = start + intervals * ServiceInterval.nanoseconds(endpoint, blueprint.speed)
    }

    private mutating func wantAlarm(_ time: UInt64) {
        if scheduledAlarm > 0, scheduledAlarm <= time { return }
        if wantedAlarm == 0 || time < wantedAlarm { wantedAlarm = time }
    }

    /// The alarm to set, once.
    mutating func takeAlarm() -> UInt64? {
        guard wantedAlarm > 0 else { return nil }
        defer { wantedAlarm = 0 }
        scheduledAlarm = wantedAlarm
        return wantedAlarm
    }

    mutating func timeReached() {
        scheduledAlarm = 0
        ready.formUnion(paced)
    }
}
