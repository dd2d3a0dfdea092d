// SPDX-License-Identifier: Apache-2.0

package import Logging

/// What the command line of vusbd says; nil where it says nothing.
package struct DaemonOptions: Sendable {
    package var config: String?
    package var mount: String?
    package var socket: String?
    package var state: String?
    package var emulate: [String] = []
    package var noHost = false
    package var readers: Int?
    package var logLevel: Logger.Level?
    package var modules: [String] = []
    package var attachHelper: String?

    package init() {}
}
