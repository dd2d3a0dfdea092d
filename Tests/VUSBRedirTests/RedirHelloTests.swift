// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBRedir

@Suite("redirect: hello and description")
struct RedirHelloTests {
    typealias Endpoint = RedirHeard.Endpoint

    /// Endpoint 0, both ways.
    private static let control = (out: Endpoint(address: 0x00, type: 0), in: Endpoint(address: 0x80, type: 0))
    private static let bulkOut = Endpoint(address: 0x02, type: 2, packetSize: 512)
    private static let bulkIn = Endpoint(address: 0x81, type: 2, packetSize: 512)

    /// What a peer with these capabilities hears before it asks for anything.
    private func greeting(_ rig: RedirRig, _ capabilities: RedirCapabilities = .all) async throws -> [RedirHeard] {
        let peer = try RedirPeer(path: rig.port.socketPath, capabilities)
        peer.startReading()
        peer.send(peer.wire.hello())
        let heard = await peer.next(4)
        await rig.finish(peer)
        return heard
    }

    private func endpoints(_ heard: [RedirHeard]) -> [Endpoint] {
        for case .endpoints(let rows) in heard { return rows }
        return []
    }

    private func speed(_ heard: [RedirHeard]) -> UInt8? {
        for case .connect(let connect) in heard { return connect.speed }
        return nil
    }

    @Test("both say hello, then the device is described and connected, in this order")
    func order() async throws {
        let heard = try await greeting(RedirRig())
        #expect(
            heard == [
                .hello("vusb test"),
                .interfaces([RedirHeard.Interface(number: 0, interfaceClass: 0xff)]),
                .endpoints([Self.control.out, Self.bulkOut, Self.control.in, Self.bulkIn]),
                .connect(
                    RedirHeard.Connect(speed: 2, deviceClass: 0, vendor: 0x0525, product: 0xa4a0, version: 0x0100)),
            ])
    }

    @Test("nothing but a hello is sent to a peer that hasn't said its own")
    func silentPeer() async throws {
        let rig = try RedirRig()
        let peer = try RedirPeer(path: rig.port.socketPath)
        peer.startReading()
        #expect(await peer.next() == .hello("vusb test"))
        #expect(rig.port.status.state == .greeting)
        peer.close()
        #expect(await peer.untilClosed() == [])
        #expect(await rig.events.wait(for: 1) == [.closed(violation: nil)])
        #expect(rig.port.status.state == .closed)
        await rig.finish(peer)
    }

    @Test("a high-speed device's intervals are microframes: 2 to the power of bInterval - 1")
    func highSpeedIntervals() async throws {
        // bInterval 1, packets of 1024 bytes.
        let isochronous = endpoints(try await greeting(RedirRig(alternate: 1)))
        #expect(
            isochronous == [
                Self.control.out, Self.bulkOut, Endpoint(address: 0x04, type: 1, interval: 1, packetSize: 1024),
                Self.control.in, Self.bulkIn, Endpoint(address: 0x83, type: 1, interval: 1, packetSize: 1024),
            ])
        // bInterval 4: 8 microframes.
        let interrupt = endpoints(try await greeting(RedirRig(alternate: 2)))
        #expect(
            interrupt == [
                Self.control.out, Self.bulkOut, Endpoint(address: 0x06, type: 3, interval: 8, packetSize: 64),
                Self.control.in, Self.bulkIn, Endpoint(address: 0x85, type: 3, interval: 8, packetSize: 64),
            ])
    }

    @Test("a full-speed device's interrupt intervals are frames as they stand, isochronous ones a power of 2")
    func fullSpeedIntervals() async throws {
        let bytes =
            DescriptorBytes.device()
            + DescriptorBytes.configuration([
                DescriptorBytes.interface(0, endpoints: 1, class: 3),
                DescriptorBytes.endpoint(0x81, .interrupt, maxPacketSize: 8, interval: 10),
                DescriptorBytes.interface(5, endpoints: 2, class: 1),
                DescriptorBytes.endpoint(0x02, .isochronous, maxPacketSize: 192, interval: 1),
                DescriptorBytes.endpoint(0x83, .isochronous, maxPacketSize: 96, interval: 4),
            ])
        let heard = try await greeting(RedirRig(descriptors: Descriptors(parsing: bytes), speed: .full))
        #expect(
            heard.dropFirst().first
                == .interfaces([
                    RedirHeard.Interface(number: 0, interfaceClass: 3),
                    RedirHeard.Interface(number: 5, interfaceClass: 1),
                ]))
        #expect(
            endpoints(heard) == [
                Self.control.out, Endpoint(address: 0x02, type: 1, interval: 1, interface: 5, packetSize: 192),
                Self.control.in, Endpoint(address: 0x81, type: 3, interval: 10, packetSize: 8),
                Endpoint(address: 0x83, type: 1, interval: 8, interface: 5, packetSize: 96),
            ])
        #expect(speed(heard) == 1)
    }

    @Test("packets of a high-bandwidth endpoint have all bytes of the interval; a long interval is 255 at most")
    func highBandwidth() async throws {
        let bytes =
            DescriptorBytes.device()
            + DescriptorBytes.configuration([
                DescriptorBytes.interface(0, endpoints: 2),
                // Three packets of 1024 bytes a microframe.
                DescriptorBytes.endpoint(0x81, .isochronous, maxPacketSize: 1024 | 2 << 11, interval: 1),
                DescriptorBytes.endpoint(0x82, .interrupt, maxPacketSize: 64, interval: 16),
            ])
        let heard = try await greeting(RedirRig(descriptors: Descriptors(parsing: bytes)))
        #expect(
            endpoints(heard).dropFirst(2) == [
                Endpoint(address: 0x81, type: 1, interval: 1, packetSize: 3072),
                Endpoint(address: 0x82, type: 3, interval: 255, packetSize: 64),
            ])
    }

    /// Bulk endpoints at super speed, 0x81 with 16 streams, 0x02 with none.
    static func superSpeed() throws -> Descriptors {
        let bytes =
            DescriptorBytes.device(bcdUSB: 0x0300, maxPacketSize0: 9)
            + DescriptorBytes.configuration([
                DescriptorBytes.interface(0, endpoints: 2, class: 8),
                DescriptorBytes.endpoint(0x81, maxPacketSize: 1024),
                DescriptorBytes.companion(burst: 3, attributes: 4),
                DescriptorBytes.endpoint(0x02, maxPacketSize: 1024), DescriptorBytes.companion(),
            ])
        return try Descriptors(parsing: bytes)
    }

    @Test("bulk streams are those of the endpoint's companion")
    func bulkStreams() async throws {
        let heard = try await greeting(RedirRig(descriptors: Self.superSpeed(), speed: .super))
        #expect(
            endpoints(heard) == [
                Self.control.out, Endpoint(address: 0x02, type: 2, packetSize: 1024), Self.control.in,
                Endpoint(address: 0x81, type: 2, packetSize: 1024, streams: 16),
            ])
        #expect(speed(heard) == 3)
    }

    @Test("a peer without capabilities hears of no version, packet sizes and streams")
    func oldPeer() async throws {
        let heard = try await greeting(RedirRig(descriptors: Self.superSpeed(), speed: .super), .none)
        let addresses: [UInt8] = [0x00, 0x02, 0x80, 0x81]
        #expect(endpoints(heard).map(\.address) == addresses)
        #expect(endpoints(heard).allSatisfy { $0.packetSize == 0 && $0.streams == 0 })
        #expect(
            heard.last
                == .connect(
                    // libusbredirparser's own word for a version that it wasn't told.
                    RedirHeard.Connect(speed: 3, deviceClass: 0, vendor: 0x0525, product: 0xa4a0, version: 0xffff)))
    }

    @Test("an unconfigured device has endpoint 0")
    func unconfigured() async throws {
        let heard = try await greeting(RedirRig(configuration: 0))
        #expect(heard.dropFirst().first == .interfaces([]))
        #expect(endpoints(heard) == [Self.control.out, Self.control.in])
    }

    @Test(
        "what a peer calls itself is shown as one line of ASCII",
        arguments: [
            ("qemu usb-redir guest 7.2.1", "qemu usb-redir guest 7.2.1"), ("a\nb\u{1b}[31m\u{e9}", "a?b?[31m?"),
            (String(repeating: "x", count: 64), String(repeating: "x", count: 64)), ("", ""),
        ])
    func peerName(name: String, shown: String) async throws {
        let rig = try RedirRig()
        let peer = try RedirPeer(path: rig.port.socketPath)
        peer.startReading()
        peer.send(peer.wire.hello(name))
        #expect(await rig.events.wait(for: 1) == [.connected(peer: shown)])
        #expect(rig.port.status.state == .connected)
        #expect(rig.port.status.peer == shown)
        await rig.finish(peer)
    }
}
