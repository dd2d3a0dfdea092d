// SPDX-License-Identifier: Apache-2.0

internal import CVUSBShims
internal import Glibc
internal import Synchronization
internal import VUSBCore

/// A thread that reads FUSE requests and carries them out until the session ends.
///
/// Concurrency model: `start` and `wake` are the control plane's; the context belongs to the thread itself.
@safe
final class ReaderThread: @unchecked Sendable {
    // SAFETY: the context is only used by the thread; the thread's id is set before anybody can wake it.
    private let number: Int
    private let session: SessionHandle
    private let context: ReaderContext
    private let onEnd: @Sendable () -> Void
    private let thread = Mutex<pthread_t?>(nil)
    private let isStopping = Atomic(false)

    /// Only interrupts read(2): its handler does nothing.
    private static let wakeSignal = SIGUSR2

    init(number: Int, session: SessionHandle, context: ReaderContext, onEnd: @escaping @Sendable () -> Void) {
        self.number = number
        self.session = session
        self.context = context
        self.onEnd = onEnd
    }

    /// - Throws: `io` where no thread is to be had.
    func start() throws(USBError) {
        Self.installHandler()
        // Balanced by takeRetainedValue in readerMain, or below.
        let me = unsafe Unmanaged.passRetained(self)
        let argument = unsafe SendablePointer(me.toOpaque())
        // Under the lock, so that a thread that ends at once doesn't forget its number before it is noted.
        let result = thread.withLock { noted in
            var id = pthread_t()
            let result = unsafe pthread_create(&id, nil, readerMain, argument.pointer)
            noted = result == 0 ? id : nil
            return result
        }
        guard result != 0 else { return }
        unsafe me.release()
        throw USBError(
            .io,
            "reader thread \(number) can't be started: \(errorText(result))",
            remedy: "raise the limit of tasks (TasksMax=, ulimit -u), or ask for fewer --readers"
        )
    }

    /// Has the thread look whether it is to stop. Safe until `onEnd` was called.
    func wake() {
        isStopping.store(true, ordering: .releasing)
        // The one lock across a C call: the number must not go to another thread before it is used. Neither call waits.
        thread.withLock { id in
            if let id { pthread_kill(id, Self.wakeSignal) }
        }
    }

    fileprivate func run() {
        // A name is only for people who look at threads.
        unsafe CVUSBShims_set_thread_name("vusb-fuse-\(number)")
        RealTime.enter()
        context.install()
        Self.unblockWakeSignal()
        while !isStopping.load(ordering: .acquiring), session.serveOne(context.requestBuffer) {}
        thread.withLock { id in
            if let id { pthread_detach(id) }
            id = nil
        }
        onEnd()
    }

    /// Whoever created the thread may be a worker of libdispatch, which blocks all signals; threads inherit that.
    private static func unblockWakeSignal() {
        var signals = sigset_t()
        unsafe sigemptyset(&signals)
        unsafe sigaddset(&signals, wakeSignal)
        unsafe pthread_sigmask(SIG_UNBLOCK, &signals, nil)
    }

    private static func installHandler() {
        var action = sigaction()
        unsafe action.__sigaction_handler.sa_handler = { _ in }
        // No SA_RESTART: read must return.
        unsafe sigaction(wakeSignal, &action, nil)
    }
}

/// Carries a pointer into a closure.
@safe
private struct SendablePointer: @unchecked Sendable {
    // SAFETY: made and used within one function.
    let pointer: UnsafeMutableRawPointer
    @unsafe init(_ pointer: UnsafeMutableRawPointer) { unsafe self.pointer = pointer }
}

private func readerMain(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    guard let argument = unsafe argument else { return nil }
    let reader = unsafe Unmanaged<ReaderThread>.fromOpaque(argument).takeRetainedValue()
    reader.run()
    return nil
}
