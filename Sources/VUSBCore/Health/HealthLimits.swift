// SPDX-License-Identifier: Apache-2.0

/// When a device counts as misbehaving. Each limit can be turned off; Health.md says why the defaults are as they are.
package struct HealthLimits: Sendable, Equatable {
    /// Stalls of one endpoint other than 0, without a transfer in between that it carried out.
    package var stalls = EventLimit(1000, in: .seconds(10))
    /// The same for endpoint 0, where a stall is how a device says that it doesn't know a request.
    package var controlStalls = EventLimit(10_000, in: .seconds(10))
    /// Transfers in which the device sent more than was asked for, on all endpoints.
    package var babble = EventLimit(100, in: .seconds(10))
    /// Transfers that failed on the wire, or at the host's controller, on all endpoints.
    package var protocolErrors = EventLimit(200, in: .seconds(10), lasting: .seconds(2))
    /// How long a cancelled URB may take to end; nil or zero for as long as it likes.
    package var cancelTime: Duration? = .seconds(15)
    /// How often a device may go away from its port: `PlugStorm`.
    package var disconnects = EventLimit(40, in: .seconds(60))
    /// How long a port must have been quiet until a storm on it is over.
    package var calm = Duration.seconds(60)

    package init() {}

    /// Nothing counts as misbehaving.
    package static let off: HealthLimits = {
        var limits = HealthLimits()
        limits.stalls = .off
        limits.controlStalls = .off
        limits.babble = .off
        limits.protocolErrors = .off
        limits.cancelTime = nil
        limits.disconnects = .off
        return limits
    }()
}
