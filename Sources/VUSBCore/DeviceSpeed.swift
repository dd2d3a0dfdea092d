// SPDX-License-Identifier: Apache-2.0

/// The signalling rate of a device.
package enum DeviceSpeed: String, Sendable, CaseIterable {
    case low
    case full
    case high
    case `super`
    case superPlus = "super-plus"

    /// SuperSpeed or faster: at a root hub of USB 3, and with its units.
    package var isSuper: Bool { self == .super || self == .superPlus }

    /// Megabits a second, as sysfs prints it in `speed`.
    package var sysfsName: String {
        switch self {
        case .low: "1.5"
        case .full: "12"
        case .high: "480"
        case .super: "5000"
        case .superPlus: "10000"
        }
    }

    /// Reads what sysfs prints; nil for a rate that USB doesn't have. Gen 2x2 (20000) counts as SuperSpeedPlus.
    package init?(sysfsName: String) {
        switch sysfsName {
        case "1.5": self = .low
        case "12": self = .full
        case "480": self = .high
        case "5000": self = .super
        case "10000", "20000": self = .superPlus
        default: return nil
        }
    }
}
