// SPDX-License-Identifier: Apache-2.0

/// Where vusbd listens for a guest's clients of USB/IP, as far as a client inside can get there. Attach.md has what each
/// is from inside.
package enum AttachAddress: Sendable, Hashable {
    case vsock(port: UInt32)
    /// - Parameter host: a numeric address of this host.
    case tcp(host: String, port: UInt16)
    /// As `tcp`, with certificates: no client of Linux's speaks that by itself.
    case tls(host: String, port: UInt16)
    /// Of this host; the guest's machine connects a serial port to it.
    case unix(path: String)
}
