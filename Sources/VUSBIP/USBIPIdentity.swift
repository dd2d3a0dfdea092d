// SPDX-License-Identifier: Apache-2.0

internal import Crypto

/// Who is at the other end of a connection, as this host's kernel or TLS has found out.
package enum USBIPIdentity: Sendable, Hashable {
    /// SO_PEERCRED of a Unix socket.
    case user(uid: UInt32, gid: UInt32, process: Int32)
    /// The context id of a virtual machine; 2 is the host.
    case machine(cid: UInt32)
    /// The SHA-256 fingerprint of a client's certificate, 64 lower-case hexadecimal digits, and its subject's common name,
    /// nil where that has none or one that isn't printable ASCII.
    case certificate(fingerprint: String, commonName: String?)
    /// Of TCP without TLS: nobody in particular.
    case address(String)
}

extension USBIPIdentity {
    /// - Parameter certificate: DER.
    init(certificate: [UInt8]) {
        let digits = SHA256.hash(data: certificate).map { byte in
            (byte < 16 ? "0" : "") + String(byte, radix: 16)
        }
        self = .certificate(fingerprint: digits.joined(), commonName: CertificateName.commonName(certificate))
    }
}

extension USBIPIdentity: CustomStringConvertible {
    /// For log lines and events.
    package var description: String {
        switch self {
        case .user(let uid, _, let process): "user \(uid), process \(process)"
        case .machine(let cid): "vsock CID \(cid)"
        case .certificate(let fingerprint, let name): "certificate \(name ?? "without a name"), SHA-256 \(fingerprint)"
        case .address(let text): text
        }
    }
}
