// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBTestSupport

@Suite("Passes of a source's thread")
struct CompletionPassTests {
    private struct Fault: Error {}

    /// Says by its name that it was told.
    private final class Handler: CompletionPassHandler {
        private let name: String
        private let told: Inbox<String>

        init(_ told: Inbox<String>, _ name: String = "one") {
            self.name = name
            self.told = told
        }

        func passEnded() {
            #expect(!CompletionPass.tellAtEnd(self), "what it completes itself is in no pass")
            told.append(name)
        }
    }

    private let told = Inbox<String>()

    @Test("who is in none needn't wait")
    func none() {
        #expect(!CompletionPass.tellAtEnd(Handler(told)))
        #expect(told.elements == [])
    }

    @Test("all who asked are told at its end, once for each time, and not at the next one's")
    func end() {
        let pass = CompletionPass()
        let (first, second) = (Handler(told, "first"), Handler(told, "second"))
        pass.run {
            for handler in [first, second, first] { #expect(CompletionPass.tellAtEnd(handler)) }
            #expect(told.elements == [])
        }
        #expect(told.elements.sorted() == ["first", "first", "second"])
        #expect(!CompletionPass.tellAtEnd(first))
        pass.run {}
        #expect(told.count == 3)
    }

    @Test("a pass within another is a part of it")
    func nested() {
        let (outer, inner) = (CompletionPass(), CompletionPass())
        outer.run {
            inner.run { #expect(CompletionPass.tellAtEnd(Handler(told))) }
            #expect(told.elements == [])
        }
        #expect(told.elements == ["one"])
    }

    @Test("one that fails is at its end, too")
    func failure() {
        #expect(throws: Fault.self) {
            try CompletionPass().run { () throws(Fault) in
                #expect(CompletionPass.tellAtEnd(Handler(told)))
                throw Fault()
            }
        }
        #expect(told.elements == ["one"])
    }

    @Test("other threads aren't in it")
    func threads() async {
        let others = Inbox<Bool>()
        let isIn = Inbox<Bool>()
        await Threads.run(2) { [told] thread in
            if thread == 0 {
                CompletionPass().run {
                    isIn.append(true)
                    while others.count == 0 { Threads.yield() }
                }
            } else {
                while isIn.count == 0 { Threads.yield() }
                others.append(CompletionPass.tellAtEnd(Handler(told)))
            }
        }
        #expect(others.elements == [false] && told.elements == [])
    }
}
