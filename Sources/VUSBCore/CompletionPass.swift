// SPDX-License-Identifier: Apache-2.0

/// Who is told of the end of a pass.
package protocol CompletionPassHandler: AnyObject {
    /// On the thread of the pass, once for each time that it was asked for.
    func passEnded()
}

/// What a source's thread does at a time: it takes the ends of however many URBs have ended, and completes them one after
/// the other. Handlers that answer many at once rather than each are told when it's over.
///
/// Concurrency model: one thread's, which no other sees.
package final class CompletionPass {
    private var handlers: [any CompletionPassHandler] = []

    package init() {}

    /// Set by `run`, whose caller has the pass for the length of the call.
    private static let current = ThreadReference<CompletionPass>()

    /// Calls `body`, which completes URBs, and then tells whoever asked for it meanwhile, in no order. A pass within a pass
    /// is a part of it.
    package func run<Result, Failure>(_ body: () throws(Failure) -> Result) throws(Failure) -> Result {
        guard Self.current.value == nil else { return try body() }
        Self.current.set(self)
        defer { end() }
        return try body()
    }

    private func end() {
        // What a handler completes isn't of this pass: nobody would be told.
        Self.current.set(nil)
        while let handler = handlers.popLast() { handler.passEnded() }
    }

    /// Has the handler told of the end of the pass in which the calling thread is.
    /// - Returns: false where it's in none: there's nothing to wait for.
    package static func tellAtEnd(_ handler: any CompletionPassHandler) -> Bool {
        guard let pass = current.value else { return false }
        pass.handlers.append(handler)
        return true
    }
}
