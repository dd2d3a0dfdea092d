// SPDX-License-Identifier: Apache-2.0

internal import NIOSSL
package import VUSBCore

/// TLS for a listener: this host's certificate, and the authority that signs those of its guests. A peer without one of
/// these isn't let in.
package struct USBIPTLS: Sendable {
    let context: NIOSSLContext

    /// Reads PEM files.
    /// - Parameters:
    ///   - certificates: of this host, its own first.
    ///   - authority: whom clients' certificates must come from.
    /// - Throws: `invalid`, naming the file.
    package init(certificates: String, key: String, authority: String) throws(USBError) {
        let chain = try Self.read(certificates) { try NIOSSLCertificate.fromPEMFile($0) }
        let privateKey = try Self.read(key) { try NIOSSLPrivateKey(file: $0, format: .pem) }
        let roots = try Self.read(authority) { try NIOSSLCertificate.fromPEMFile($0) }
        var configuration = TLSConfiguration.makeServerConfigurationWithMTLS(
            certificateChain: chain.map { .certificate($0) }, privateKey: .privateKey(privateKey),
            trustRoots: .certificates(roots))
        configuration.minimumTLSVersion = .tlsv12
        do {
            context = try NIOSSLContext(configuration: configuration)
        } catch {
            throw USBError(
                .invalid, "\(key) can't be used with \(certificates): \(error)",
                remedy: "it must be the key of the first certificate there")
        }
    }

    /// What went wrong in a handshake: of what BoringSSL says the words alone, without its files and lines.
    static func reason(_ error: any Error) -> String {
        let text = "\(error)"
        guard let mark = text.firstRange(of: "OPENSSL_internal:") else { return text }
        let words = text[mark.upperBound...].prefix { $0.isUppercase || $0.isNumber || $0 == "_" }
        return words.lowercased().split(separator: "_").joined(separator: " ")
    }

    private static func read<Value>(_ path: String, _ body: (String) throws -> Value) throws(USBError) -> Value {
        do {
            return try body(path)
        } catch {
            throw USBError(.invalid, "\(path): \(error)", remedy: "it must be a PEM file that vusbd may read")
        }
    }
}
