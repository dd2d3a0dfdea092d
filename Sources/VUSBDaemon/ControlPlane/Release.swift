// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl

/// How devices are taken from their guest: a `ReleaseRequest`, checked.
struct Release: Sendable {
    static let defaultDeadline = 5.0
    /// How long cancelled URBs may take to come back before their device is closed under them.
    static let graceAfterCancel = Duration.seconds(5)

    /// The same for a guest that is gone.
    static let graceOfGone = Duration.seconds(1)

    var deadline: Duration
    var onDeadline: ReleaseRequest.OnDeadline

    /// The guest is gone: nobody waits for its URBs any more.
    static let forced = Release(deadline: .milliseconds(500), onDeadline: .cancel)
    /// The guest has no device any more.
    static let idle = Release(deadline: .seconds(5), onDeadline: .refuse)

    /// As asked for without more.
    static let ordinary = Release(deadline: .seconds(defaultDeadline), onDeadline: .refuse)

    /// It goes back to the guest that stands before this one, once this one doesn't use it.
    static let patient = Release(deadline: .seconds(defaultDeadline), onDeadline: .wait)
    /// It goes back in any case.
    static let insistent = Release(deadline: .seconds(defaultDeadline), onDeadline: .cancel)

    /// What nobody loses anything by.
    static let atOnce = Release(deadline: .zero, onDeadline: .cancel)

    /// One try of somebody who waits: as long as it lasts the guest may be held back.
    static let attempt = Release(deadline: .seconds(1), onDeadline: .refuse)
    /// Between two of them.
    static let longestPause = Duration.seconds(30)

    init(deadline: Duration, onDeadline: ReleaseRequest.OnDeadline) {
        self.deadline = deadline
        self.onDeadline = onDeadline
    }

    init(_ request: ReleaseRequest) throws(Problem) {
        let seconds = request.deadlineSeconds ?? Self.defaultDeadline
        guard Rules.deadlines.contains(seconds) else {
            throw Problem(
                .malformed,
                "\(seconds) is no deadlineSeconds",
                remedy: "give 0 to \(Int(Rules.deadlines.upperBound)) seconds"
            )
        }
        deadline = .seconds(seconds)
        onDeadline = request.onDeadline ?? .refuse
    }
}
