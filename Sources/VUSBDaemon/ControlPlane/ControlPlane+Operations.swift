// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl
internal import VUSBCore

/// Long operations: how they run, end, are waited for and cancelled.
extension ControlPlane {
    /// Longest that a client waits in one call, in seconds.
    static let longestWait = 3600.0

    /// Steps from which on a device that is switched is at nobody's disposal.
    static let draining = "draining"
    static let quiescing = "quiescing"

    typealias Work = @Sendable (isolated ControlPlane, Int) async throws(Problem) -> AttachmentInfo?

    /// Begins an operation. The caller writes down who is concerned before it lets go of the actor; the work runs
    /// after that.
    func begin(_ kind: Operation.Kind, guest: String?, device: DeviceID?) -> Int {
        let id = operationLog.begin(kind, guest: guest, device: device?.rawValue)
        emit(.operation, guest: guest, device: device, detail: "\(kind.rawValue) \(id) running")
        return id
    }

    func run(_ id: Int, _ work: @escaping Work) -> OperationInfo {
        operationLog.setTask(id, Task { await self.carryOut(id, work) })
        return operationLog[id]?.info ?? OperationInfo(id: id, kind: "", state: .running)
    }

    private func carryOut(_ id: Int, _ work: Work) async {
        do {
            let attachment = try await work(self, id)
            end(id, .succeeded, attachment: attachment)
        } catch {
            end(id, error.code == .cancelled ? .cancelled : .failed, error: error)
        }
    }

    private func end(
        _ id: Int, _ state: OperationInfo.State, error: Problem? = nil, attachment: AttachmentInfo? = nil
    ) {
        operationLog.end(id, state, error: error, attachment: attachment)
        guard let info = operationLog[id]?.info else { return }
        let detail = "\(info.kind) \(id) \(state.rawValue)" + (error.map { ": " + $0.detail } ?? "")
        emit(.operation, guest: info.guest, device: info.device.map { DeviceID($0) }, detail: detail)
    }

    /// The operation's task was asked to stop, and there is a way back.
    func checkCancelled(_ id: Int) throws(Problem) {
        guard !Task.isCancelled else { throw Self.cancelled(id) }
    }

    static func cancelled(_ id: Int) -> Problem {
        Problem(.cancelled, "operation \(id) was cancelled", remedy: "all is as it was before; start it again")
    }

    func checkRunning() throws(Problem) {
        guard phase == .running else {
            throw Problem(.unavailable, "vusbd is stopping", remedy: "try again when it runs again")
        }
    }

    // MARK: - Waiting

    /// Returns when the operation has ended.
    func ended(_ id: Int) async {
        let waiter = operationLog.newWaiter()
        await withCheckedContinuation { operationLog.wait(waiter, for: id, afterSteps: nil, $0) }
    }

    /// Returns when the operation has ended or gone beyond so many steps, when the time is up, or when the caller
    /// was cancelled.
    func wait(for id: Int, seconds: Double, afterSteps: Int?) async {
        guard seconds > 0 else { return }
        let waiter = operationLog.newWaiter()
        let alarm = Task {
            // A cancelled sleep only means that there is nothing to wait for any more.
            try? await Task.sleep(for: .seconds(min(seconds, Self.longestWait)))
            self.operationLog.giveUp(waiter, of: id)
        }
        await withTaskCancellationHandler {
            await withCheckedContinuation { operationLog.wait(waiter, for: id, afterSteps: afterSteps, $0) }
        } onCancel: {
            alarm.cancel()
        }
        alarm.cancel()
    }

    // MARK: - Cancelling

    func cancel(_ id: Int) throws(Problem) -> OperationInfo {
        let operation = try operationLog.find(id)
        guard !operation.hasEnded else {
            throw Problem(
                .conflict,
                "operation \(id) has ended: \(operation.info.state.rawValue)",
                remedy: "undo it with an operation of its own"
            )
        }
        guard operation.isCancellable else {
            throw Problem(
                .conflict,
                "operation \(id) can't be cancelled any more: devices are being given back",
                remedy: "wait for its end"
            )
        }
        operation.task?.cancel()
        return operation.info
    }
}
