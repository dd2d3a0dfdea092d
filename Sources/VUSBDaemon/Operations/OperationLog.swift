// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl

/// The operations that run, and the last that ended. A value without a lock of its own; `ControlPlane` guards it.
struct OperationLog: Sendable {
    /// Ended ones kept.
    static let limit = 256

    private var operations: [Int: Operation] = [:]
    private var ended: [Int] = []
    private var nextID = 1
    private var nextWaiter = 1

    var running: [Int] { operations.filter { !$0.value.hasEnded }.keys.sorted() }
    var infos: [OperationInfo] { operations.sorted { $0.key < $1.key }.map(\.value.info) }

    subscript(_ id: Int) -> Operation? { operations[id] }

    func find(_ id: Int) throws(Problem) -> Operation {
        guard let operation = operations[id] else {
            throw Problem(
                .notFound,
                "no operation \(id)",
                remedy: "operations that ended are kept until \(Self.limit) more have"
            )
        }
        return operation
    }

    // MARK: - Life

    mutating func begin(_ kind: Operation.Kind, guest: String?, device: String?) -> Int {
        let id = nextID
        nextID += 1
        let info = OperationInfo(id: id, kind: kind.rawValue, guest: guest, device: device, state: .running)
        operations[id] = Operation(info: info, began: .now)
        return id
    }

    mutating func setTask(_ id: Int, _ task: Task<Void, Never>) { operations[id]?.task = task }
    mutating func setCancellable(_ id: Int, _ isCancellable: Bool) { operations[id]?.isCancellable = isCancellable }

    mutating func step(_ id: Int, _ name: String) {
        guard var operation = operations[id], !operation.hasEnded else { return }
        let time = operation.began.duration(to: .now)
        operation.info.steps.append(OperationInfo.Step(name: name, atMilliseconds: time.milliseconds))
        operations[id] = operation
        wake(id)
    }

    mutating func end(
        _ id: Int, _ state: OperationInfo.State, error: Problem? = nil, attachment: AttachmentInfo? = nil
    ) {
        guard var operation = operations[id], !operation.hasEnded else { return }
        operation.info.state = state
        operation.info.error = error
        operation.info.attachment = attachment
        operation.task = nil
        operations[id] = operation
        ended.append(id)
        wake(id)
        if ended.count > Self.limit { operations[ended.removeFirst()] = nil }
    }

    // MARK: - Waiting

    mutating func newWaiter() -> Int {
        nextWaiter += 1
        return nextWaiter
    }

    /// Resumes at once where there is nothing to wait for.
    mutating func wait(
        _ waiter: Int, for id: Int, afterSteps: Int?, _ continuation: CheckedContinuation<Void, Never>
    ) {
        guard let operation = operations[id], !operation.satisfies(afterSteps: afterSteps) else {
            continuation.resume()
            return
        }
        operations[id]?.waiters[waiter] = Operation.Waiter(afterSteps: afterSteps, continuation: continuation)
    }

    /// The time is up, or whoever waited has gone.
    mutating func giveUp(_ waiter: Int, of id: Int) {
        operations[id]?.waiters.removeValue(forKey: waiter)?.continuation.resume()
    }

    private mutating func wake(_ id: Int) {
        guard let operation = operations[id] else { return }
        for (waiter, wait) in operation.waiters where operation.satisfies(afterSteps: wait.afterSteps) {
            operations[id]?.waiters[waiter] = nil
            wait.continuation.resume()
        }
    }
}

extension Duration {
    var milliseconds: Double {
        Double(components.seconds) * 1000 + Double(components.attoseconds) / 1e15
    }

    var inSeconds: Double { milliseconds / 1000 }
}
