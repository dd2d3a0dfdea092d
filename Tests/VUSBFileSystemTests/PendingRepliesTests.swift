// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBFileSystem

/// Without a mount there are no requests: what is here is what holds without one. The rows F1-F6 are tested on a mount,
/// in Tests/FileSystem.
@Suite("Pending replies")
struct PendingRepliesTests {
    @Test(
        "a key that was never given has no reply, and is never to be cancelled",
        arguments: [0, 1, 1 << 32, .max] as [UInt64])
    func unknownKey(key: UInt64) {
        let pending = PendingReplies()
        let isUnknown = isNil(pending.take(key)) && isNil(pending.beginSubmit(key)) && isNil(pending.park(key))
        #expect(isUnknown)
        #expect(!pending.submitted(key, .none))
    }

    @Test("an interrupt of a request that isn't there is nothing", arguments: [0, 4096, .max] as [UInt])
    func unknownRequest(request: UInt) {
        let pending = PendingReplies()
        guard case .nothing = pending.interrupted(request) else {
            Issue.record("something is to be done about it")
            return
        }
        pending.answerAll(19)
    }

    private func isNil(_ reply: consuming FUSEReply?) -> Bool {
        guard let reply else { return true }
        reply.none()
        return false
    }
}
