// SPDX-License-Identifier: Apache-2.0

/// How long an import waits for its server. The rows are those of Imports.md.
package struct USBIPImportPatience: Sendable {
    /// For a connection, and then for the answer to the operation.
    package var operation: Duration = .seconds(10)
    /// For a control transfer of this host's own.
    package var control: Duration = .seconds(5)
    /// For a reset that the server carries out: the kernel gives a device some tries of 5 seconds each.
    package var reset: Duration = .seconds(10)
    /// For a reset by a new connection, and between its tries.
    package var renewal: Duration = .seconds(10)
    package var renewalPause: Duration = .milliseconds(250)
    /// For the end of a URB that its guest has cancelled.
    package var unlink: Duration = .seconds(15)
    /// As `unlink`, where a close or a reset waits for it.
    package var ending: Duration = .seconds(5)
    /// For a byte to be taken, where some wait.
    package var reading: Duration = .seconds(12)
    /// Between two looks at those.
    package var look: Duration = .seconds(1)
    /// Before the second try; doubled each time.
    package var firstPause: Duration = .milliseconds(500)
    package var longestPause: Duration = .seconds(15)

    package init() {}
}
