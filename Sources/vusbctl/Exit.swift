// SPDX-License-Identifier: Apache-2.0

import VUSBControl

/// What vusbctl ends with.
enum Exit: Int32 {
    case done = 0
    case failed = 1
    case usage = 2
    case denied = 3
    /// Timed out or busy.
    case busy = 4
    /// By ^C: 128 and the signal's number, as shells have it.
    case cancelled = 130
    /// Nobody reads what it prints: as by SIGPIPE.
    case unread = 141

    init(_ problem: Problem) {
        self =
            switch problem.code {
            case .malformed: .usage
            case .denied: .denied
            case .busy, .timedOut: .busy
            default: problem.status == 403 ? .denied : .failed
            }
    }

    init(_ error: ClientError) {
        self =
            switch error.code {
            case .denied: .denied
            case .silent: .busy
            case .notRunning, .interrupted, .garbled: .failed
            }
    }
}

/// An error that the client is known to throw.
protocol ExpectedError: Error {}
extension Problem: ExpectedError {}
extension ClientError: ExpectedError {}

/// What ends a command: a text for people, a code for programs, and with `--json` the problem itself.
struct Failure: Error {
    var exit: Exit
    /// Empty when everything has been said.
    var message: String
    var problem: Problem?

    init(_ exit: Exit, _ message: String = "", problem: Problem? = nil) {
        self.exit = exit
        self.message = message
        self.problem = problem
    }

    init(_ error: any ExpectedError) {
        switch error {
        case let problem as Problem: self.init(Exit(problem), Self.text(problem), problem: problem)
        case let error as ClientError: self.init(Exit(error), error.description)
        default: self.init(.failed, "\(error)")
        }
    }

    func print() {
        guard !message.isEmpty else { return }
        Output.complain("vusbctl: " + message)
    }

    private static func text(_ problem: Problem) -> String {
        var text = Output.harmless(problem.detail)
        if let candidates = problem.candidates, !candidates.isEmpty {
            text += "\nit may be one of:" + candidates.map { "\n  " + Output.harmless($0) }.joined()
        }
        if let remedy = problem.remedy { text += "\n" + Output.harmless(remedy) }
        return text
    }
}
