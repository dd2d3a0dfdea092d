// SPDX-License-Identifier: Apache-2.0

import Foundation

/// Threads of the system, for tests that race: tasks would share as many as there are CPUs.
package enum Threads {
    /// Runs `body` on `count` threads at once, each with its number, and returns when all have returned.
    package static func run(_ count: Int, _ body: @escaping @Sendable (Int) -> Void) async {
        let ended = Inbox<Int>()
        for index in 0..<count {
            Thread.detachNewThread {
                body(index)
                ended.append(index)
            }
        }
        await ended.wait(for: count, within: .seconds(120))
    }

    /// Lets another thread run: for loops that wait for what another thread is about to do.
    package static func yield() { sched_yield() }
}
