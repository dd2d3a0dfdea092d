// SPDX-License-Identifier: Apache-2.0

import VUSBControl

/// Shows an operation's steps on stderr, a line each. A percentage changes in its line on a terminal; elsewhere there is
/// a line for each quarter.
actor Progress {
    private let isOnTerminal: Bool
    private var shown = 0
    /// What the last step said beside its percentage; nil if it had none.
    private var counting: String?
    private var quarter = 0

    init(isOnTerminal: Bool) { self.isOnTerminal = isOnTerminal }

    func show(_ operation: OperationInfo) {
        let subject = [operation.device, operation.guest].compactMap { $0 }.map(Output.harmless)
        for step in operation.steps.dropFirst(shown) {
            let text = ([operation.kind] + subject).joined(separator: " ") + ": " + Output.harmless(step.name)
            show(step.name, "\(text) (\(Self.milliseconds(step.atMilliseconds)) ms)")
        }
        shown = max(shown, operation.steps.count)
    }

    /// Ends the line that is still being written.
    func end() {
        if isOnTerminal, counting != nil { Output.progress("\n") }
        counting = nil
    }

    private func show(_ step: String, _ line: String) {
        guard let (name, percent) = Self.percentage(step) else {
            end()
            return Output.complain(line)
        }
        let isFirst = name != counting
        if isFirst { end() }
        counting = name
        if isOnTerminal {
            // Back to the line's begin, the text, and the rest of the line erased (ECMA-48 EL).
            Output.progress("\r" + line + "\u{1b}[K")
        } else if isFirst || percent / 25 > quarter {
            Output.complain(line)
        }
        quarter = isFirst ? percent / 25 : max(quarter, percent / 25)
    }

    /// `loading vusb_hcd: 35 % copied` taken apart.
    private static func percentage(_ step: String) -> (name: String, percent: Int)? {
        guard let match = step.firstMatch(of: /([0-9]{1,3}) ?%/), let percent = Int(match.1) else { return nil }
        return (String(step[..<match.range.lowerBound] + step[match.range.upperBound...]), percent)
    }

    private static func milliseconds(_ value: Double) -> String {
        let tenths = Int((min(max(value, 0), 1e12) * 10).rounded())
        return "\(tenths / 10).\(tenths % 10)"
    }
}
