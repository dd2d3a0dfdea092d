// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Synchronization

/// Data threads that come before all others of the host (`realtime: true`): SCHED_FIFO, and memory that isn't swapped out.
///
/// Settled once, before any of them is started. Each calls `enter` as the first thing it does; without `realtime` that is one
/// relaxed load.
package enum RealTime {
    /// Of SCHED_FIFO (sched(7)): above ordinary threads, and below what a host gives its own interrupts, 50.
    package static let priority: Int32 = 10

    /// SCHED_RESET_ON_FORK (sched.h), and MCL_ONFAULT (mman-linux.h), which the C module leaves out.
    private static let resetOnFork: Int32 = 0x4000_0000
    private static let lockOnFault: Int32 = 4

    private static let isWanted = Atomic(false)

    /// From now on data threads enter.
    package static func want() { isWanted.store(true, ordering: .relaxed) }

    package static var wasWanted: Bool { isWanted.load(ordering: .relaxed) }

    /// The calling thread is one that carries data.
    package static func enter() {
        guard wasWanted else { return }
        // Whether it may was found out at the start, and told: it's ordinary then.
        _ = schedule(SCHED_FIFO, priority)
    }

    /// Whether this process may have such threads: the calling thread becomes one, and what it was.
    /// - Returns: an errno, or 0.
    package static func probe() -> Int32 {
        let code = schedule(SCHED_FIFO, priority)
        if code == 0 { _ = schedule(SCHED_OTHER, 0) }
        return code
    }

    /// Keeps what is in use of the process's memory, now and later, from being swapped out.
    /// - Returns: an errno, or 0.
    package static func lockMemory() -> Int32 {
        // What is never touched takes no memory.
        mlockall(Int32(MCL_CURRENT) | Int32(MCL_FUTURE) | lockOnFault) == 0 ? 0 : errno
    }

    private static func schedule(_ policy: Int32, _ priority: Int32) -> Int32 {
        var parameters = sched_param()
        parameters.sched_priority = priority
        // 0 is the calling thread. Threads that it makes are ordinary: the runtime makes those that wait for work.
        return unsafe sched_setscheduler(0, policy | resetOnFork, &parameters) == 0 ? 0 : errno
    }
}
