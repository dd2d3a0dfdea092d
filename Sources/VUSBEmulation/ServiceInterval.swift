// SPDX-License-Identifier: Apache-2.0

import VUSBCore

/// How long an interrupt or isochronous endpoint waits between two services (USB 2.0, table 9-13, `bInterval`).
enum ServiceInterval {
    private static let frame: UInt64 = 1_000_000
    private static let microframe: UInt64 = 125_000

    /// Nanoseconds; 0 for endpoints that aren't paced.
    static func nanoseconds(_ endpoint: EndpointDescriptor, _ speed: DeviceSpeed) -> UInt64 {
        let interval = max(1, endpoint.bInterval)
        let isFast = speed != .low && speed != .full
        switch endpoint.transferType {
        case .isochronous: return (isFast ? microframe : frame) << UInt64(min(interval, 16) - 1)
        case .interrupt: return isFast ? microframe << UInt64(min(interval, 16) - 1) : frame * UInt64(interval)
        case .bulk, .control: return 0
        }
    }

    /// The frame number of a time, as a host controller counts: milliseconds, or microframes from high speed on.
    static func frameNumber(_ time: UInt64, _ speed: DeviceSpeed) -> UInt32 {
        UInt32(truncatingIfNeeded: time / (speed == .low || speed == .full ? frame : microframe))
    }
}
