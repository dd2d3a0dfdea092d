// SPDX-License-Identifier: Apache-2.0

internal import Dispatch
internal import Logging
internal import VUSBControl
internal import VUSBCore

/// Where the control plane's state is kept: a file, or a test's memory.
protocol StateKeeper: Sendable {
    /// Returns once this or a later state would survive a kill, or it was told that it won't.
    func save(_ state: SavedState, revision: UInt64) async
    /// How keeping goes, for `doctor`.
    func findings() async -> [Finding]
}

/// Keeps the state in a file.
///
/// Concurrency model: an actor; the file is written on a queue of its own, as that blocks. Of states that come while
/// one is being written only the last is written: a thousand attaches at once cost a few writes.
actor StateStore: StateKeeper {
    private let file: StateFile
    private let logger: Logger
    private let queue = DispatchQueue(label: "vusb.state")
    private var pending: (state: SavedState, revision: UInt64)?
    private var written: UInt64 = 0
    private var waiters: [(revision: UInt64, continuation: CheckedContinuation<Void, Never>)] = []
    private var isWriting = false
    private var failure: USBError?

    init(_ file: StateFile, logger: Logger) {
        self.file = file
        self.logger = logger
    }

    func save(_ state: SavedState, revision: UInt64) async {
        guard revision > written else { return }
        if revision > pending?.revision ?? 0 { pending = (state, revision) }
        if !isWriting {
            isWriting = true
            Task { await self.writePending() }
        }
        await withCheckedContinuation { waiters.append((revision, $0)) }
    }

    func findings() -> [Finding] {
        guard let failure else { return [Finding(check: "state file", level: .ok, summary: file.path)] }
        return [
            Finding(
                check: "state file",
                level: .error,
                summary: "\(failure.message); attachments made since then are lost at a restart",
                remedy: failure.remedy ?? "see that \(file.directory) can be written"
            )
        ]
    }

    private func writePending() async {
        while let (state, revision) = pending {
            pending = nil
            note(await write(state))
            written = revision
            let done = waiters.filter { $0.revision <= revision }
            waiters.removeAll { $0.revision <= revision }
            for waiter in done { waiter.continuation.resume() }
        }
        isWriting = false
    }

    private func write(_ state: SavedState) async -> USBError? {
        let file = file
        return await withCheckedContinuation { continuation in
            queue.async {
                do {
                    try file.write(state)
                    continuation.resume(returning: nil)
                } catch {
                    continuation.resume(returning: error as? USBError ?? USBError(.io, "\(error)"))
                }
            }
        }
    }

    /// What can't be written doesn't fail the operation, which is done; it's told to whoever watches the host.
    private func note(_ error: USBError?) {
        if let error { logger.error("state can't be written", metadata: ["error": "\(error)"]) }
        if error == nil, failure != nil { logger.notice("state is written again") }
        failure = error
    }
}
