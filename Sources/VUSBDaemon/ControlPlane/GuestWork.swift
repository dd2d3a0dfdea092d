// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// What changes a guest's kernel: one such call at a time in each guest, also where one outlives its limit and its
/// operation. States.md has what follows.
extension ControlPlane {
    /// As `ask`, for a call that changes the guest's kernel and, cancelled, undoes its half. One that isn't done within
    /// the limit is cancelled, and its end waited for as long as an unload may take. What goes on after that, or in a
    /// guest that went off, the next one waits for.
    func work<Value: Sendable>(
        in guest: String, for limit: Duration, operation: Int?,
        _ call: @escaping @Sendable () async throws(USBError) -> Value
    ) async -> Result<Value, USBError> {
        let failure = await awaitWork(in: guest, operation: operation)
        // Then it isn't waited for either, and that says more than that something is at work there yet.
        guard guestRegistry[guest]?.isGone == false else { return .failure(Self.gone(guest)) }
        if let failure { return .failure(failure) }
        let work = begin(in: guest, call)
        let result = await ask(guest, for: limit) { () async throws(USBError) in
            try await withTaskCancellationHandler {
                await work.value
            } onCancel: {
                work.cancel()
            }.get()
        }
        work.cancel()
        // Not where the guest went off or vusbd is in a hurry: then nobody waits any more.
        guard case .failure(let error) = result, error.code == .timedOut else { return result }
        // It may have ended at that very moment, and well.
        guard guestWork[guest] != nil else { return await work.value }
        if let operation { operationLog.step(operation, "not done within \(limit.inSeconds) s: it's being undone") }
        return await end(of: work, in: guest, because: error)
    }

    private func begin<Value: Sendable>(
        in guest: String, _ call: @escaping @Sendable () async throws(USBError) -> Value
    ) -> Task<Result<Value, USBError>, Never> {
        let work = Task { () async -> Result<Value, USBError> in
            // It runs after this function: the entry is there before it's taken out.
            defer { guestWork[guest] = nil }
            do throws(USBError) {
                return .success(try await call())
            } catch {
                return .failure(error)
            }
        }
        guestWork[guest] = Task { _ = await work.value }
        return work
    }

    /// - Returns: what it came to after all, or why it was given up.
    private func end<Value: Sendable>(
        of work: Task<Result<Value, USBError>, Never>, in guest: String, because error: USBError
    ) async -> Result<Value, USBError> {
        let end = await ask(guest, for: tools.times.unload) { () async throws(USBError) in await work.value }
        switch end {
        case .success(.success(let value)): return .success(value)
        case .success(.failure(let last)):
            return .failure(USBError(error.code, "\(error.message): \(last.message)", remedy: error.remedy))
        case .failure: return .failure(error)
        }
    }

    /// Returns when nothing that was begun earlier is at work in the guest's kernel, or when the task is cancelled.
    /// - Returns: `busy` where there still is.
    func awaitWork(in guest: String, operation: Int?) async -> USBError? {
        guard let work = guestWork[guest] else { return nil }
        if let operation { operationLog.step(operation, "waiting for what was begun in the guest before") }
        let gate = Gate()
        Task {
            await work.value
            gate.open()
        }
        _ = await ask(guest, for: tools.times.unload) { () async throws(USBError) in await gate.wait() }
        guard guestWork[guest] != nil else { return nil }
        return USBError(
            .busy,
            "what an earlier load or unload began in guest \(guest) hasn't ended yet",
            remedy: "try again in a minute; if that doesn't help, restart the guest's agent, or the guest"
        )
    }
}
