// SPDX-License-Identifier: Apache-2.0

import Synchronization
import VUSBCore
import VUSBSystem

/// What `EmulationSource` does with a device, whatever its model.
protocol EmulatedUnit: USBBackend {
    /// - Throws: `busy` where it's open, `gone` where it was unplugged.
    func open() throws(USBError)
    /// What waits ends with `noDevice`, and all that comes.
    func unplug()
}

/// An emulated device: the backend over a `DeviceModel`.
///
/// Concurrency model: any thread submits, cancels, unplugs. All state is in one `Mutex`, which is held across no
/// completion, no file I/O and no other lock. A thread that submits serves whatever is ready, its own URB or another's,
/// and completes it on the spot; an endpoint is served by one thread at a time, which keeps the order of its
/// completions and makes a handler that submits from within a completion queue instead of recurse. URBs that can't go
/// on wait in bounded queues (`VirtualDevice` accepts 4,096 a device) until a later URB, the clock or the host's own
/// action makes their endpoint ready. Lock order: none, it is a leaf.
final class EmulatedDevice<Model: DeviceModel>: EmulatedUnit, Paced {
    let id: DeviceID
    private let clock: PaceClock
    private let state: Mutex<DeviceState<Model>>
    /// Jobs for the device's own thread, which starts with the first one and ends once there was none for two seconds:
    /// a slow image file holds up neither the threads of a front nor another device, and a thousand idle devices have
    /// no thread. Once the device is unplugged, the thread ends as soon as it has no job. Never taken together with
    /// `state`.
    private let lane = Mutex(BlockingLane<Model>())
    private let laneCondition = WaitCondition()

    init(id: DeviceID, blueprint: Blueprint, model: Model, serial: String, clock: PaceClock) {
        self.id = id
        self.clock = clock
        state = Mutex(DeviceState(blueprint, model: model, serial: serial))
    }

    // MARK: - Data path

    // Generic code finds its types at run time, which costs a quarter of a small transfer's time.
    @specialized(where Model == ZeroModel)
    @specialized(where Model == SerialModel)
    @specialized(where Model == DiskModel)
    @specialized(where Model == KeyboardModel)
    func submit(_ urb: consuming URB) {
        var item: QueuedURB? = QueuedURB(urb)
        let isAccepted = state.withLock { $0.accept(&item) }
        if isAccepted {
            serve(finished: nil)
        } else if let refused = item.take() {
            refused.complete(.noDevice)
        }
    }

    func cancel(_ token: URBToken) {
        guard let found = state.withLock({ $0.remove(token) }) else { return }
        found.complete(.cancelled)
        state.withLock { $0.gaveBack(1) }
        serve(finished: nil)
    }

    func timeReached() {
        state.withLock { $0.timeReached() }
        serve(finished: nil)
    }

    /// Changes the model from outside, as a person at the device does, and lets go on what waited for it.
    func act<Result: Sendable, Failure>(
        _ body: (inout Model, inout Effects) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        let result = try state.withLock { state throws(Failure) -> Result in
            var effects = Effects()
            let result = try body(&state.model, &effects)
            state.wake(effects.wake)
            return result
        }
        serve(finished: nil)
        return result
    }

    /// Does what there is to do until nothing is ready.
    private func serve(finished: Int?) {
        var finished = finished
        var now: UInt64 = 0
        while true {
            let step = state.withLock { $0.next(finished: finished, now: now) }
            finished = nil
            switch consume step {
            case .idle: return setAlarm()
            case .readClock: now = monotonicNow()
            case .tell(let waiters): for waiter in waiters { waiter.resume() }
            case .giveBack(let item, let status, let endpoint):
                item.complete(status)
                finished = endpoint
            case .shutDown(let ended, let item):
                end(ended, .shutdown)
                item.complete(.success)
                finished = 0
            case .perform(let item, let pending):
                guard let endpoint = perform(item, pending, mayBlock: false) else { continue }
                finished = endpoint
            }
        }
    }

    private func setAlarm() {
        if let time = state.withLock({ $0.takeAlarm() }) { clock.schedule(self, at: time) }
    }

    private func end(_ queue: consuming URBQueue, _ status: URBStatus) {
        while let item = queue.removeFirst() { item.complete(status) }
    }

    // MARK: - Jobs

    /// Carries out a job and what follows from it.
    /// - Returns: the endpoint that is finished; nil where the device's own thread goes on with it.
    private func perform(
        _ item: consuming QueuedURB,
        _ first: DeviceState<Model>.PendingJob,
        mayBlock: Bool
    ) -> Int? {
        var item: QueuedURB? = item
        var pending = first
        while var current = item.take() {
            guard let result = Model.perform(pending.job, &current.urb, mayBlock: mayBlock) else {
                handOver(current, pending)
                return nil
            }
            item = consume current
            let outcome = state.withLock { $0.outcome(pending, result: result, &item) }
            switch consume outcome {
            case .giveBack(let done, let status):
                done.complete(status)
            case .perform(let next, let job):
                item = consume next
                pending = job
            case .wait: break
            }
        }
        return first.endpoint
    }

    /// Leaves a job that would block to the device's own thread.
    private func handOver(_ item: consuming QueuedURB, _ pending: DeviceState<Model>.PendingJob) {
        var item: QueuedURB? = item
        let needsThread = lane.withLock { lane in
            guard let added = item.take() else { return false }
            return lane.add(added, pending)
        }
        if !needsThread {
            laneCondition.signal()
        } else if DetachedThread.start(name: "vusb-emu-io", body: { self.runLane() }) != 0 {
            // No thread to be had: late is better than never.
            runLane()
        }
    }

    private func runLane() {
        while true {
            if let entry = lane.withLock({ $0.takeFirst() }) {
                let pending = entry.pending
                serve(finished: perform(entry.item, pending, mayBlock: true))
            } else if !laneCondition.wait(until: monotonicNow() + 2_000_000_000) || isUnplugged {
                if lane.withLock({ $0.stopIfIdle() }) { return }
            }
        }
    }

    // MARK: - Control plane

    func open() throws(USBError) {
        try state.withLock { state throws(USBError) in
            switch state.presence {
            case .free: state.presence = .open
            case .open, .closing:
                throw USBError(.busy, "\(id) is open already", remedy: "detach it from the guest that has it first")
            case .unplugged: throw USBError(.gone, "\(id) was unplugged")
            }
        }
    }

    func unplug() {
        var model: Model?
        endAll(.noDevice) { state in
            if state.presence != .unplugged { model = state.model }
            state.presence = .unplugged
        }
        // What the model has of the host's is free when this returns, however long others keep the device.
        model?.unplugged()
        laneCondition.signal()
    }

    private var isUnplugged: Bool { state.withLock { $0.presence == .unplugged } }

    func reset() async throws(USBError) {
        endAll(.shutdown) { state in
            state.beginEpoch()
            state.chapter9 = Chapter9State()
        }
        await quiet()
        if state.withLock({ $0.presence == .unplugged }) { throw USBError(.gone, "\(id) was unplugged") }
    }

    /// The device is left as one that was just plugged in and configured; what it keeps (a disk's content, bytes that
    /// weren't read yet) stays.
    func close() async {
        endAll(.cancelled) { if $0.presence == .open { $0.presence = .closing } }
        await quiet()
        state.withLock { state in
            state.settings = ActiveSettings(state.blueprint.descriptors, configurationValue: 1)
            state.chapter9 = Chapter9State()
            state.beginEpoch()
            if state.presence == .closing { state.presence = .free }
        }
    }

    private func endAll(_ status: URBStatus, _ change: (inout DeviceState<Model>) -> Void) {
        let ended = state.withLock { state in
            change(&state)
            return state.removeAll()
        }
        let count = ended.count
        end(ended, status)
        state.withLock { $0.gaveBack(count) }
        serve(finished: nil)
    }

    /// Waits until no URB is under way.
    private func quiet() async {
        await withCheckedContinuation { waiter in
            if !state.withLock({ $0.waitUntilQuiet(waiter) }) { waiter.resume() }
        }
    }
}
