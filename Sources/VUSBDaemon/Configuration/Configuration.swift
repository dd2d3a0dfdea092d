// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl
internal import VUSBCore

/// What vusb.yaml says. A field that it doesn't have is nil: the command line or the default decides.
struct Configuration: Sendable, Equatable {
    static let defaultPath = "/etc/vusb/vusb.yaml"

    var mount: String?
    var socket: String?
    var socketGroup: String?
    var socketMode: UInt16?
    var state: String?
    var images: String?
    var host: Bool?
    var emulate: [String] = []
    var readers: Int?
    /// Data threads come before all others, and memory isn't swapped out.
    var realtime = false
    var logLevel: String?
    /// Directories of builds of the USB module.
    var modules: [String] = []
    var guests: [ConfiguredGuest] = []
    /// In their order.
    var claims: [ClaimSpec] = []
    var focus: [FocusSet] = []
    var health = HealthLimits()
    /// What mode `auto` goes by.
    var auto = ModeMeter.Rule()
    var access: [AccessRule] = []
    /// Where clients of the USB/IP protocol connect, whichever guest they are.
    var usbip: [USBIPListenerSpec] = []
    /// Devices of other servers of that protocol.
    var imports: [ImportSpec] = []
}

/// A guest of vusb.yaml.
struct ConfiguredGuest: Sendable, Equatable {
    var specification: GuestSpec
    /// Loaded at every start.
    var load = false
}

/// One thing that is wrong in vusb.yaml.
struct ConfigurationFault: Error, Sendable, Equatable, CustomStringConvertible {
    var line: Int?
    /// Such as `guests.web1.file-mode`.
    var key: String?
    var message: String
    var remedy: String?

    var description: String {
        let place = (line.map { "line \($0): " } ?? "") + (key.map { "\($0): " } ?? "")
        return place + message + (remedy.map { "; \($0)" } ?? "")
    }
}

/// All that is wrong in a file, not only the first.
struct ConfigurationError: Error, Sendable, Equatable, CustomStringConvertible {
    var path: String
    var faults: [ConfigurationFault]

    var description: String { faults.map { "\(path): \($0)" }.joined(separator: "\n") }
}
