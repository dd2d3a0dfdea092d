// SPDX-License-Identifier: Apache-2.0

import CLibUSB
import CVUSBShims
import Glibc
import Synchronization
import VUSBCore

/// A thread that runs one function and ends with it.
///
/// Concurrency model: whoever has it may wait for its end; the state is in one `Mutex`, a leaf.
final class HostThread: Sendable {
    private struct State {
        var ended = false
        var waiters: [CheckedContinuation<Void, Never>] = []
    }

    private final class Start: Sendable {
        let name: String
        let body: @Sendable () -> Void
        let thread: HostThread
        init(name: String, thread: HostThread, body: @escaping @Sendable () -> Void) {
            self.name = name
            self.thread = thread
            self.body = body
        }
    }

    private let state = Mutex(State())
    /// Deep enough for libusb and a sysfs scan; the default of 8 MiB would only be reserved.
    private static let stackSize = 512 << 10

    /// - Parameter name: at most 15 bytes, as the kernel shows it.
    /// - Throws: `io` where the system has no thread to give.
    init(name: String, body: @escaping @Sendable () -> Void) throws(USBError) {
        let start = Start(name: name, thread: self, body: body)
        let code = Self.create(start)
        guard code == 0 else {
            throw USBError(
                .io,
                "no thread for \(name): \(SystemError(code: code))",
                remedy: "raise the limit of tasks (TasksMax=, ulimit -u)"
            )
        }
    }

    private static func create(_ start: Start) -> Int32 {
        var attributes = pthread_attr_t()
        unsafe pthread_attr_init(&attributes)
        defer { unsafe pthread_attr_destroy(&attributes) }
        unsafe pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
        unsafe pthread_attr_setstacksize(&attributes, stackSize)
        // Balanced in threadMain, or below where there is no thread to run it.
        let argument = unsafe Unmanaged.passRetained(start).toOpaque()
        var thread = pthread_t()
        let code = unsafe pthread_create(&thread, &attributes, threadMain, argument)
        if code != 0 { unsafe Unmanaged<Start>.fromOpaque(argument).release() }
        return code
    }

    fileprivate static func run(_ argument: UnsafeMutableRawPointer) {
        // SAFETY: create passed a retained Start, and this thread is the only one to take it.
        let start = unsafe Unmanaged<Start>.fromOpaque(argument).takeRetainedValue()
        unsafe CVUSBShims_set_thread_name(start.name)
        start.body()
        let waiters = start.thread.state.withLock { state in
            state.ended = true
            defer { state.waiters.removeAll() }
            return state.waiters
        }
        for waiter in waiters { waiter.resume() }
    }

    /// Returns when the thread's function has returned.
    func end() async {
        await withCheckedContinuation { continuation in
            let ended = state.withLock { state in
                if !state.ended { state.waiters.append(continuation) }
                return state.ended
            }
            if ended { continuation.resume() }
        }
    }
}

private func threadMain(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    if let argument = unsafe argument { unsafe HostThread.run(argument) }
    return nil
}
