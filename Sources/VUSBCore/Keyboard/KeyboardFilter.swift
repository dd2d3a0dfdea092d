// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// Keeps a chord from the guest that has the keyboard, and tells whom it's for. See KeyboardChord.md, K20 to K30.
///
/// Concurrency model: `VirtualDevice` calls it from the threads that submit and complete, the alarm from the clock's. All
/// state is in one `Mutex`, a leaf, held across no call out. A chord is told with no lock held.
package final class KeyboardFilter: AlarmReceiver {
    fileprivate struct State: Sendable {
        var chord: KeyboardChord
        /// For the guest, each with a URB of its own.
        var reports: [[UInt8]] = []
        weak var device: VirtualDevice?
    }

    /// What becomes of a URB that the source has given back.
    enum Verdict: Sendable {
        /// It's the guest's, as it is.
        case passes
        /// It's the guest's, with this report.
        case carries([UInt8])
        /// There is nothing in it for the guest: the source gets it again.
        case again
    }

    /// The keyboard's input.
    let endpoint: EndpointAddress
    private let clock: any AlarmClock
    private let onChord: @Sendable (UInt8) -> Void
    private let state: Mutex<State>

    /// Nil for a device without a boot keyboard.
    /// - Parameter onChord: gets the digit, 0 to 9; called with no lock held, on the data path: it must not block.
    package init?(
        _ definition: KeyboardChord.Definition, _ descriptors: Descriptors, configurationValue: UInt8,
        clock: any AlarmClock = AlarmThread.shared, onChord: @escaping @Sendable (UInt8) -> Void
    ) {
        let interfaces = descriptors.configuration(value: configurationValue)?.interfaces ?? []
        guard let keyboard = interfaces.first(where: \.isBootKeyboard),
            let input = keyboard.endpoints.first(where: { $0.bEndpointAddress.direction == .in })
        else { return nil }
        endpoint = input.bEndpointAddress
        self.clock = clock
        self.onChord = onChord
        state = Mutex(State(chord: KeyboardChord(definition, reportLength: Int(input.maxPacketSize))))
    }

    /// Whether a report waits for a URB.
    var hasReports: Bool { state.withLock { !$0.reports.isEmpty } }

    func serve(_ device: VirtualDevice) { state.withLock { $0.device = device } }

    // MARK: - Data path

    /// The first report that waits, for a URB that is on its way down (K22).
    func next() -> [UInt8]? {
        state.withLock { $0.reports.isEmpty ? nil : $0.reports.removeFirst() }
    }

    /// K20 to K22.
    func received(_ report: [UInt8]) -> Verdict {
        let (verdict, digit, deadline) = state.withLock { state in
            let digit = state.take(state.chord.see(report, at: .now))
            let deadline = state.chord.deadline
            guard !state.reports.isEmpty else { return (Verdict.again, digit, deadline) }
            let first = state.reports.removeFirst()
            return (first == report ? .passes : .carries(first), digit, deadline)
        }
        if let digit { onChord(digit) }
        if let deadline { setAlarm(deadline) }
        return verdict
    }

    // MARK: - Time

    /// K23.
    package func alarmRang() {
        let (device, deadline) = state.withLock { state in
            _ = state.take(state.chord.expire(at: .now))
            return (state.device, state.chord.deadline)
        }
        if let deadline { setAlarm(deadline) }
        device?.deliverReports()
    }

    private func setAlarm(_ deadline: KeyboardChord.Instant) {
        let wait = max(.zero, deadline - .now).components
        let nanoseconds = UInt64(wait.seconds) * 1_000_000_000 + UInt64(wait.attoseconds / 1_000_000_000)
        // A little more, so that the time is over then.
        clock.wake(self, at: clock.now() + nanoseconds + 1_000_000)
    }

    // MARK: - The control plane

    /// K27: what is withheld goes to the guest now.
    func giveUp() {
        let device = state.withLock { state in
            _ = state.take(state.chord.giveUp())
            return state.device
        }
        device?.deliverReports()
    }

    /// K26: the keyboard begins anew.
    func reset() {
        state.withLock { state in
            state.chord.reset()
            state.reports = []
        }
    }
}

extension KeyboardFilter.State {
    /// - Returns: a chord's digit.
    fileprivate mutating func take(_ outputs: [KeyboardChord.Output]) -> UInt8? {
        var digit: UInt8?
        for output in outputs {
            switch output {
            case .report(let report): reports.append(report)
            case .chord(let pressed): digit = pressed
            }
        }
        return digit
    }
}

extension InterfaceDescriptor {
    /// HID 1.11, 4.2 and 4.3.
    fileprivate var isBootKeyboard: Bool {
        bInterfaceClass == 3 && bInterfaceSubClass == 1 && bInterfaceProtocol == 1
    }
}
