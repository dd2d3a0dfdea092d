// SPDX-License-Identifier: Apache-2.0

import Foundation
import NIOCore
import NIOPosix
import NIOSSL
import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBIP

@Suite("USB/IP: TLS")
struct USBIPTLSTests {
    private static let folder = Fixture.directory + "/usbip-tls/"
    /// `openssl x509 -in web1.pem -outform DER | sha256sum`
    private static let fingerprint = "7e9d42a31e7bc0cb39fd128e64bf6f5e0faf3fb3fa66d6c5530177a483de8dab"

    private static func tls() throws -> USBIPTLS {
        try USBIPTLS(certificates: folder + "host.pem", key: folder + "host.key", authority: folder + "ca.pem")
    }

    /// Keeps what it reads; `closed` counts as an element.
    private final class Collector: ChannelInboundHandler, Sendable {
        typealias InboundIn = ByteBuffer

        enum Heard: Sendable, Equatable {
            case bytes([UInt8])
            case closed
        }

        let heard = Inbox<Heard>()

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            heard.append(.bytes(Array(unwrapInboundIn(data).readableBytesView)))
        }

        func channelInactive(context: ChannelHandlerContext) { heard.append(.closed) }

        // The end shows it.
        func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }

        func bytes(_ count: Int) async -> [UInt8] {
            var all: [UInt8] = []
            var seen = 0
            while all.count < count {
                let elements = await heard.wait(for: seen + 1)
                guard elements.count > seen, case .bytes(let bytes) = elements[seen] else { break }
                all += bytes
                seen += 1
            }
            return all
        }

        func isClosed() async -> Bool {
            while heard.elements.last != .closed {
                let count = heard.count
                guard await heard.wait(for: count + 1).count > count else { return false }
            }
            return true
        }
    }

    /// - Parameter name: of the certificate; nil for none.
    private func connect(
        _ port: UInt16, as name: String?, _ collector: Collector
    ) async throws -> any Channel {
        var configuration = TLSConfiguration.makeClientConfiguration()
        configuration.certificateVerification = .noHostnameVerification
        configuration.trustRoots = .file(Self.folder + "ca.pem")
        if let name {
            configuration.certificateChain = try NIOSSLCertificate.fromPEMFile(Self.folder + name + ".pem")
                .map { .certificate($0) }
            configuration.privateKey = .privateKey(
                try NIOSSLPrivateKey(file: Self.folder + name + ".key", format: .pem))
        }
        let context = try NIOSSLContext(configuration: configuration)
        return try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let handler = try NIOSSLClientHandler(context: context, serverHostname: nil)
                    try channel.pipeline.syncOperations.addHandlers(handler, collector)
                }
            }
            .connect(host: "127.0.0.1", port: Int(port)).get()
    }

    private func rig(_ front: USBIPFront, _ guests: USBIPListenerDefinition.Guests) throws -> (
        USBIPListener, VirtualDevice
    ) {
        let device = VirtualDevice(
            backend: ScriptedBackend(always: .complete(data: usbipPattern(65536))),
            descriptors: DescriptorBytes.fullZero,
            speed: .high, configurationValue: 1, pool: BufferPool())
        _ = try front.export(device, at: USBIPRig.place)
        return (try front.listen(USBIPListenerDefinition(.tcp(port: 0, tls: Self.tls()), guests)), device)
    }

    @Test("a guest is known by its certificate, and its device works over TLS")
    func known() async throws {
        let front = USBIPFront(patience: .endless)
        let identities = Inbox<USBIPIdentity>()
        let (listener, device) = try rig(
            front,
            .resolved { identity in
                identities.append(identity)
                return "web1"
            })
        let collector = Collector()
        let channel = try await connect(listener.port ?? 0, as: "web1", collector)
        let wire = USBIPWire()
        let said = USBIPWire.importDevice() + wire.bulkIn(1, 65536) + wire.bulkOut(2, usbipPattern(65536))
        try await channel.writeAndFlush(ByteBuffer(bytes: said)).get()
        // The record, an answer with data, one without.
        let count: Int = 320 + 48 + 65536 + 48
        let heard = await collector.bytes(count)
        #expect(heard.count == count)
        #expect(heard[368..<(368 + 65536)].elementsEqual(usbipPattern(65536)))
        #expect(identities.elements == [.certificate(fingerprint: Self.fingerprint, commonName: "web1")])
        try await channel.close().get()
        await front.stop()
        await device.close()
        #expect(device.pool.outstanding == 0)
    }

    @Test("who has no certificate, or one of another authority, isn't let in", arguments: [nil, "stranger"])
    func strangers(name: String?) async throws {
        let front = USBIPFront(patience: .endless)
        let (listener, device) = try rig(front, .one("web1"))
        let events = Inbox<USBIPEvent>()
        Task { for await event in front.events() { events.append(event) } }
        let collector = Collector()
        let channel = try await connect(listener.port ?? 0, as: name, collector)
        // It may be too late for it to fail, or not.
        try? await channel.writeAndFlush(ByteBuffer(bytes: USBIPWire.importDevice())).get()
        #expect(await collector.isClosed())
        #expect(await collector.bytes(1) == [])
        guard case .refused(_, _, let reason, _)? = await events.wait(for: 1).first else {
            Issue.record("no event")
            return
        }
        #expect(reason.hasPrefix("no TLS: ") && !reason.contains(".cc:"))
        await front.stop()
        await device.close()
    }

    @Test("who speaks no TLS is refused")
    func plain() async throws {
        let front = USBIPFront(patience: .endless)
        let (listener, device) = try rig(front, .one("web1"))
        let peer = try USBIPPeer(.tcp(listener.port ?? 0))
        peer.send(USBIPWire.list)
        peer.send(USBIPWire.list)
        #expect(!(await peer.bytesUntilClosed()).starts(with: [0x01, 0x11]))
        await front.stop()
        await device.close()
    }

    @Test("files that aren't PEM are told of by name")
    func badFiles() {
        #expect {
            try USBIPTLS(
                certificates: Self.folder + "README.md", key: Self.folder + "host.key",
                authority: Self.folder + "ca.pem")
        } throws: { error in "\(error)".contains("README.md") }
        #expect {
            try USBIPTLS(
                certificates: Self.folder + "host.pem", key: Self.folder + "nothing", authority: Self.folder + "ca.pem")
        } throws: { error in "\(error)".contains("nothing") }
        #expect {
            try USBIPTLS(
                certificates: Self.folder + "host.pem", key: Self.folder + "web1.key", authority: Self.folder + "ca.pem"
            )
        } throws: { error in "\(error)".contains("web1.key can't be used with") }
    }

    @Test("a certificate that is cut, or has a byte changed, has a name or none, and nothing happens")
    func brokenCertificates() throws {
        let file = try NIOSSLCertificate.fromPEMFile(Self.folder + "web1.pem")
        let bytes = try #require(try file.first?.toDERBytes())
        #expect(CertificateName.commonName(bytes) == "web1")
        for count in bytes.indices { #expect(CertificateName.commonName(Array(bytes.prefix(count))) == nil) }
        var found: Set<String?> = []
        for index in bytes.indices {
            for value in [0, 0x7f, 0x80, 0x84, 0xff] as [UInt8] {
                var changed = bytes
                changed[index] = value
                found.insert(CertificateName.commonName(changed))
            }
        }
        #expect(found.contains("web1") && found.contains(nil))
    }
}
