// SPDX-License-Identifier: Apache-2.0

import CLibUSB
import Logging
import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBHost

struct HostEventThreadTests {
    private final class Handler: CompletionPassHandler, Sendable {
        let ended = Inbox<Bool>()
        func passEnded() { ended.append(true) }
    }

    /// What a C function has to know.
    private static let handler = Handler()

    @Test func `what libusb calls on its thread is in a pass, whose end is told`() async throws {
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        var context: HostContext? = try HostContext(name: "events", logger: logger)
        let thread = try #require(context).thread
        let raw = unsafe try #require(context).raw
        // The one callback that needs no device.
        unsafe libusb_set_log_cb(
            raw, { _, _, _ in _ = CompletionPass.tellAtEnd(HostEventThreadTests.handler) },
            Int32(LIBUSB_LOG_CB_CONTEXT.rawValue))
        #expect(unsafe CLibUSB_log_all(raw) == 0)
        unsafe libusb_interrupt_event_handler(raw)
        #expect(await !Self.handler.ended.wait(for: 1).isEmpty)
        context = nil
        await thread.end()
    }
}
