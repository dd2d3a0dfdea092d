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
