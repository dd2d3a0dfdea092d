// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl

/// The rule for guests' names: they are directories under /vusb and parts of paths of the control interface.
enum GuestName {
    static let rule = "[a-z0-9][a-z0-9-]{0,62}"

    static func check(_ name: String) throws(Problem) {
        guard Rules.isGuestName(name) else {
            throw Problem(
                .malformed,
                "\(quoted(name)) is no name for a guest",
                remedy: "names are \(rule): 1 to 63 lower-case letters, digits and hyphens, no hyphen first"
            )
        }
    }
}
