// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBTestSupport

@testable import VUSBFileSystem

@Suite("A guest's events")
struct EventLogTests {
    private func text(_ next: EventLog.Next) -> String? {
        guard case .line(let bytes, _) = next else { return nil }
        return String(decoding: bytes, as: UTF8.self)
    }

    @Test("a reader gets the lines from where it began, in order")
    func order() {
        let log = EventLog()
        log.append("before")
        let start = log.endPosition
        log.append("a")
        log.append("b")
        #expect(text(log.line(at: start)) == "a\n")
        #expect(text(log.line(at: start + 1)) == "b\n")
        guard case .none = log.line(at: start + 2) else {
            Issue.record("there is a line that nobody wrote")
            return
        }
    }

    @Test("a reader that is too slow goes on with the oldest line that is kept")
    func overflow() {
        let log = EventLog()
        for number in 0...EventLog.capacity + 9 { log.append("\(number)") }
        guard case .line(let bytes, let position) = log.line(at: 0) else {
            Issue.record("nothing is kept")
            return
        }
        #expect(String(decoding: bytes, as: UTF8.self) == "10\n")
        #expect(position == 10)
        #expect(log.endPosition == UInt64(EventLog.capacity + 10))
    }

    @Test("the end comes behind the last line")
    func end() {
        let log = EventLog()
        log.append("last")
        log.finish()
        #expect(text(log.line(at: 0)) == "last\n")
        guard case .ended = log.line(at: 1) else {
            Issue.record("the log goes on")
            return
        }
    }

    @Test("observers are told of each line and of the end, until they leave")
    func observers() {
        let log = EventLog()
        let calls = Inbox<Int>()
        let first = log.addObserver { calls.append(1) }
        let second = log.addObserver { calls.append(2) }
        log.append("a")
        log.removeObserver(first)
        log.finish()
        log.removeObserver(second)
        log.append("b")
        #expect(calls.elements.sorted() == [1, 2, 2])
    }

    @Test("lines of many writers all arrive, each whole")
    func manyWriters() async {
        let log = EventLog()
        await Threads.run(4) { writer in
            for number in 0..<200 { log.append("\(writer):\(number)") }
        }
        var seen: Set<String> = []
        for position in 0..<800 as Range<UInt64> {
            if let line = text(log.line(at: position)) { seen.insert(line) }
        }
        #expect(seen == Set((0..<4).flatMap { writer in (0..<200).map { "\(writer):\($0)\n" } }))
    }
}
