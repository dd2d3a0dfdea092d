// SPDX-License-Identifier: Apache-2.0

/// The version of vusbd and vusbctl: they're made together.
package enum Version {
    package static let current = "0.1.0"
}
