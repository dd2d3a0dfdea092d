// SPDX-License-Identifier: Apache-2.0

/// Finds a chord, such as ScrollLock twice and then a digit, in what a keyboard reports, and keeps it from the guest.
/// See KeyboardChord.md.
///
/// A value without a clock: whoever has it calls `see` with each report, and `expire` when `deadline` is over. What comes
/// back is to be handed out in order.
package struct KeyboardChord: Sendable {
    package typealias Instant = ContinuousClock.Instant

    package enum Output: Sendable, Equatable {
        /// For the guest that has the keyboard now.
        case report([UInt8])
        /// The chord is complete with this digit, 0 to 9. What comes later is for whoever has the keyboard then.
        case chord(UInt8)
    }

    /// HID 1.11, appendix B.1.
    package static let bootReportLength = 8
    /// Longer ones aren't a keyboard's.
    package static let maximumReportLength = 64

    private struct Withheld: Sendable {
        let report: [UInt8]
        let visible: KeySet
    }

    /// A chord that may become one.
    private struct Attempt: Sendable {
        var taps = 1
        var deadline: Instant
        /// What the guest would have got.
        var withheld: [Withheld]
    }

    package let definition: Definition
    private let reportLength: Int
    private var attempt: Attempt?
    /// Pressed on the keyboard.
    private var pressed = KeySet()
    /// Pressed as far as the guest knows.
    private var visible = KeySet()
    /// Pressed since before the last chord, or a part of it: hidden until it's released.
    private var hidden = KeySet()

    /// - Parameter reportLength: of the keyboard's reports, the first eight bytes of which are those of the boot protocol.
    ///   Reports of another length pass unseen.
    package init(_ definition: Definition = .standard, reportLength: Int = Self.bootReportLength) {
        self.definition = definition
        self.reportLength = min(max(Self.bootReportLength, reportLength), Self.maximumReportLength)
    }

    /// When `expire` is to be called; nil while nothing is withheld.
    package var deadline: Instant? { attempt?.deadline }

    // MARK: - What happens

    /// The keyboard has sent this.
    package mutating func see(_ report: [UInt8], at now: Instant) -> [Output] {
        var outputs = expire(at: now)
        guard report.count == reportLength else { return outputs + giveUp() + [.report(report)] }
        guard let keys = KeySet(bootReport: report) else {
            // It doesn't know what is pressed: neither do we.
            outputs += giveUp()
            return hidden.isEmpty ? outputs + [.report(report)] : outputs
        }
        let before = pressed
        let wasHidden = hidden
        pressed = keys
        hidden = hidden.intersection(keys)
        if attempt != nil {
            // What is hidden may be released meanwhile: the guest doesn't know of it.
            if let more = advance(report, from: before.subtracting(wasHidden), at: now) { return outputs + more }
            outputs += giveUp()
        }
        if begins(from: before) {
            attempt = Attempt(deadline: now + definition.window, withheld: [withheld(report)])
            return outputs
        }
        let new = withheld(report)
        // Where only what is hidden has changed there is nothing to tell.
        if !wasHidden.isEmpty, new.visible == visible { return outputs }
        visible = new.visible
        return outputs + [.report(new.report)]
    }

    /// Time has gone by: what was withheld for longer than a chord may take is no chord.
    package mutating func expire(at now: Instant) -> [Output] {
        guard let deadline, now >= deadline else { return [] }
        return giveUp()
    }

    /// What is withheld is no chord, whatever comes: the guest gets it now. For a drain, and for other ends.
    package mutating func giveUp() -> [Output] {
        guard let attempt else { return [] }
        self.attempt = nil
        if let last = attempt.withheld.last { visible = last.visible }
        return attempt.withheld.map { .report($0.report) }
    }

    /// The keyboard begins anew, unplugged or reset: nothing is pressed, and nobody waits for what was withheld.
    package mutating func reset() { self = KeyboardChord(definition, reportLength: reportLength) }

    // MARK: - Steps

    /// Whether the chord's key, and nothing else, has been pressed, and at most modifiers are held besides.
    private func begins(from before: KeySet) -> Bool {
        pressed == before.union(KeySet(definition.key)) && pressed != before
            && pressed.subtracting(hidden).subtracting(KeySet(definition.key)).plainKeys.isEmpty
    }

    /// Nil where this can't be part of a chord.
    private mutating func advance(_ report: [UInt8], from before: KeySet, at now: Instant) -> [Output]? {
        let key = KeySet(definition.key)
        let down = pressed.subtracting(hidden).subtracting(before)
        let up = before.subtracting(pressed)
        // A repetition, or only what is hidden has changed.
        if down.isEmpty, up.isEmpty { return [] }
        guard var attempt else { return nil }
        if down.isEmpty, up == key {
            attempt.withheld.append(withheld(report))
            self.attempt = attempt
            return []
        }
        if attempt.taps < definition.taps, down == key, up.isEmpty {
            attempt.taps += 1
            let isLast = attempt.taps == definition.taps
            attempt.deadline = now + (isLast ? definition.digitWindow : definition.window)
            attempt.withheld.append(withheld(report))
            self.attempt = attempt
            return []
        }
        // Who is fast presses the digit before the last tap is released.
        guard attempt.taps == definition.taps, down.count == 1, up.isSubset(of: key), let digit = digit(of: down) else {
            return nil
        }
        return complete(digit)
    }

    private func digit(of keys: KeySet) -> UInt8? {
        for key in UInt8(0x1e)...0x62 where keys.contains(key) { return Self.digit(key) }
        return nil
    }

    /// The old guest sees all released, the new one sees nothing that is pressed now until it's pressed anew.
    private mutating func complete(_ digit: UInt8) -> [Output] {
        attempt = nil
        hidden = pressed
        guard !visible.isEmpty else { return [.chord(digit)] }
        visible = KeySet()
        return [.report(Array(repeating: 0, count: reportLength)), .chord(digit)]
    }

    // MARK: - Reports

    /// As the guest is to see it. What is behind the boot report isn't understood, and empty while a key is hidden.
    private func withheld(_ report: [UInt8]) -> Withheld {
        guard !hidden.isEmpty else { return Withheld(report: report, visible: pressed) }
        let visible = pressed.subtracting(hidden)
        let keys = report[2..<Self.bootReportLength].filter { visible.contains($0) }
        var filtered = [UInt8](repeating: 0, count: report.count)
        filtered[0] = visible.modifiers
        for (index, key) in keys.enumerated() { filtered[2 + index] = key }
        return Withheld(report: filtered, visible: visible)
    }
}
