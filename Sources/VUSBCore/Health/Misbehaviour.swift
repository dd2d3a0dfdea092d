// SPDX-License-Identifier: Apache-2.0

/// Why a device is one that others are to be kept from. Its description is for people.
package enum Misbehaviour: Sendable, Equatable {
    /// One endpoint stalled again and again, and did nothing else.
    case stalls(Int, within: Duration, on: EndpointAddress)
    /// More data than was asked for; the last on this endpoint.
    case babble(Int, within: Duration, on: EndpointAddress)
    /// Transfers that failed on the wire; the last on this endpoint.
    case protocolErrors(Int, within: Duration, on: EndpointAddress)
    /// So many cancelled URBs are in flight yet after so long; one of them on this endpoint.
    case cancelledInFlight(Int, after: Duration, on: EndpointAddress)
    /// It went away from its port so often.
    case plugStorm(Int, within: Duration)
}

extension Misbehaviour: CustomStringConvertible {
    package var description: String {
        switch self {
        case .stalls(let count, let window, let endpoint):
            "stalled \(count) times in \(window.inSeconds) on endpoint \(endpoint.name)"
        case .babble(let count, let window, let endpoint):
            "sent more than was asked for \(count) times in \(window.inSeconds), the last on endpoint \(endpoint.name)"
        case .protocolErrors(let count, let window, let endpoint):
            "\(count) transfers failed on the wire in \(window.inSeconds), the last on endpoint \(endpoint.name)"
        case .cancelledInFlight(let count, let time, let endpoint):
            "\(count) cancelled transfer\(count == 1 ? "" : "s") not ended after \(time.inSeconds), "
                + "on endpoint \(endpoint.name)"
        case .plugStorm(let count, let window):
            "disconnected \(count) times in \(window.inSeconds)"
        }
    }
}
