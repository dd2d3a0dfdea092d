// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl

/// What `vusbd --version` prints.
package enum DaemonVersion {
    package static var text: String { Version.current }
}
