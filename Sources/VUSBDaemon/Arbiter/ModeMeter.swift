// SPDX-License-Identifier: Apache-2.0

internal import VUSBVMM

/// How often a guest and its devices come and go, and what that takes in each mode: what mode `auto` goes by where a guest
/// could have both an emulated controller (`redirect`) and the module. Arbiter.md has the rows, M1 to M6.
///
/// A value of the control plane's; time is handed in.
struct ModeMeter: Sendable {
    typealias Instant = ContinuousClock.Instant

    /// What happens to a guest that takes time for its mode's sake.
    enum Change: String, Sendable, CaseIterable {
        case load, unload, attach, detach
        /// Counted besides the attach or detach that it consists of, and takes nothing more.
        case `switch`

        fileprivate var plural: String {
            switch self {
            case .load: "loads"
            case .unload: "unloads"
            case .attach: "attaches"
            case .detach: "detaches"
            case .switch: "switches"
            }
        }
    }

    /// `auto` of vusb.yaml.
    struct Rule: Sendable, Equatable {
        /// What is further back counts no more.
        var window = Duration.seconds(3600)
        /// Where all changes of a window would take longer by the module than by a controller, and by more than this, the
        /// guest gets a controller.
        var dear = Duration.seconds(10)
        /// Where they would take less than this longer, and the guest has had its controller for a window, it gets the module.
        var cheap = Duration.seconds(2)
    }

    /// Which mode is the better one, and why.
    struct Advice: Sendable, Equatable {
        var mode: GuestMode
        var reason: String
    }

    private struct Note: Sendable {
        var change: Change
        var at: Instant
    }

    private struct Cost: Sendable, Hashable {
        var mode: GuestMode
        var change: Change
    }

    private struct Mean: Sendable {
        var seconds = 0.0
        var count = 0

        /// What is new counts for at least an eighth, so that a machine that has become slow is noticed.
        mutating func add(_ value: Double) {
            count = min(count + 1, 8)
            seconds += (value - seconds) / Double(count)
        }
    }

    /// So many changes are kept; a guest with more of them in a window has its controller by far.
    private static let mostNotes = 4096

    private var notes: [Note] = []
    private var means: [Cost: Mean] = [:]
    /// Since when it has had the mode that was chosen last, or nothing was chosen yet and it's watched.
    private(set) var since: Instant?

    mutating func count(_ change: Change, at now: Instant, rule: Rule) {
        if since == nil { since = now }
        forget(before: now - rule.window)
        if notes.count == Self.mostNotes { notes.removeFirst() }
        notes.append(Note(change: change, at: now))
    }

    /// - Parameter took: what the change took, and was the mode's doing alone.
    mutating func measure(_ change: Change, in mode: GuestMode, took: Duration) {
        means[Cost(mode: mode, change: change), default: Mean()].add(took.inSeconds)
    }

    /// Another mode was chosen: what is measured from now on decides whether that stays so.
    mutating func moved(at now: Instant) { since = now }

    /// - Parameter current: the mode that was chosen last.
    func advice(for current: GuestMode, at now: Instant, rule: Rule) -> Advice {
        let extra = extraSeconds(at: now, rule: rule)
        let text = reason(extra, at: now, rule)
        if current == .module {
            return Advice(mode: extra > rule.dear.inSeconds ? .redirect : .module, reason: text)
        }
        guard let since, now - since >= rule.window else {
            return Advice(mode: .redirect, reason: text + "; watched for less than that yet")
        }
        return Advice(mode: extra < rule.cheap.inSeconds ? .module : .redirect, reason: text)
    }

    /// How often within the window.
    func count(of change: Change, at now: Instant, rule: Rule) -> Int {
        notes.count { $0.change == change && $0.at > now - rule.window }
    }

    /// By how much longer all changes of the window would take with the module, in seconds; less than 0 where it's the
    /// quicker one.
    func extraSeconds(at now: Instant, rule: Rule) -> Double {
        Change.allCases.reduce(0) { sum, change in
            let each = seconds(for: change, in: .module) - seconds(for: change, in: .redirect)
            return sum + each * Double(count(of: change, at: now, rule: rule))
        }
    }

    /// What a change takes: as measured with this guest, else as it commonly is.
    func seconds(for change: Change, in mode: GuestMode) -> Double {
        means[Cost(mode: mode, change: change)]?.seconds ?? Self.common(change, mode)
    }

    /// Of a Debian guest under KVM-less QEMU on two processors, to the next power of two.
    private static func common(_ change: Change, _ mode: GuestMode) -> Double {
        switch (mode, change) {
        case (_, .switch): 0
        case (.module, .load): 2
        case (.module, .unload): 1
        case (.module, .attach): 0.01
        case (.module, .detach): 0.25
        case (_, .load), (_, .unload): 0.03
        case (_, .attach), (_, .detach): 0.1
        }
    }

    private func reason(_ extra: Double, at now: Instant, _ rule: Rule) -> String {
        let counted = Change.allCases.map { "\($0.plural) \(count(of: $0, at: now, rule: rule))" }
        let seconds = (abs(extra) * 10).rounded() / 10
        return "\(counted.joined(separator: ", ")) within \(Int(rule.window.inSeconds)) s: with the module that takes "
            + "\(seconds) s \(extra < 0 ? "less" : "more") than with a controller"
    }

    private mutating func forget(before time: Instant) {
        let kept = notes.firstIndex { $0.at > time } ?? notes.endIndex
        notes.removeFirst(kept)
    }
}
