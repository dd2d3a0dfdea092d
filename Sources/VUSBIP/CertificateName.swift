// SPDX-License-Identifier: Apache-2.0

internal import SwiftASN1
internal import X509

/// Finds the common name of an X.509 certificate's subject (RFC 5280, 4.1).
enum CertificateName {
    /// The most significant one, which is the last; nil where there is none, or one that isn't printable ASCII of 1 to 64
    /// characters.
    /// - Parameter certificate: DER. TLS has verified it before, but its bytes are checked as anybody's.
    static func commonName(_ certificate: [UInt8]) -> String? {
        // One that can't be read has no name.
        guard let subject = try? Certificate(derEncoded: certificate).subject,
            let attribute = subject.lazy.flatMap({ $0 }).last(where: { $0.type == .RDNAttributeType.commonName }),
            let name = String(attribute.value),
            (1...64).contains(name.utf8.count), name.utf8.allSatisfy({ (0x20...0x7e).contains($0) })
        else { return nil }
        return name
    }
}
