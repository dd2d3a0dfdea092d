// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing
import VUSBCore

@testable import VUSBIP

@Suite("USB/IP: sockets")
struct USBIPSocketTests {
    private func option(_ descriptor: Int32, _ level: Int32, _ name: Int32) -> Int32 {
        var value: Int32 = -1
        var length = socklen_t(MemoryLayout<Int32>.size)
        unsafe getsockopt(descriptor, level, name, &value, &length)
        return value
    }

    @Test("K2: the kernel is told to find out about TCP peers that vanish")
    func keepAlive() throws {
        let endpoint = USBIPListenerDefinition.Endpoint.tcp(port: 0)
        let listener = try USBIPSocket.listen(at: endpoint)
        defer { close(listener) }
        let peer = try USBIPPeer(.tcp(try #require(USBIPSocket.port(listener))))
        guard case .peer(let descriptor) = USBIPSocket.accept(listener) else {
            Issue.record("nobody has connected")
            return
        }
        defer { close(descriptor) }
        guard case .address(let text)? = USBIPSocket.prepare(descriptor, of: endpoint) else {
            Issue.record("no address")
            return
        }
        #expect(text.hasPrefix("127.0.0.1 port "))
        let tcp = Int32(IPPROTO_TCP)
        #expect(option(descriptor, SOL_SOCKET, SO_KEEPALIVE) == 1)
        #expect(option(descriptor, tcp, TCP_KEEPIDLE) == 5)
        #expect(option(descriptor, tcp, TCP_KEEPINTVL) == 2)
        #expect(option(descriptor, tcp, TCP_KEEPCNT) == 3)
        #expect(option(descriptor, tcp, TCP_USER_TIMEOUT) == 10_000)
        #expect(option(descriptor, tcp, TCP_NODELAY) != 0)
        peer.close()
        #expect(USBIPSocket.accept(listener) == .none)
    }

    @Test("a Unix socket has the permissions that were given, and takes the place of one that was left")
    func permissions() throws {
        let path = "/tmp/vusb-usbip-\(UUID().uuidString.prefix(8))"
        let first = try USBIPSocket.listen(at: .unix(path: path, mode: 0o660))
        #expect(try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int == 0o660)
        close(first)
        let second = try USBIPSocket.listen(at: .unix(path: path))
        #expect(try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int == 0o600)
        close(second)
        USBIPSocket.removeSocket(path)
        #expect(!FileManager.default.fileExists(atPath: path))
    }

    @Test("what isn't a socket isn't removed")
    func noSocket() throws {
        let path = "/tmp/vusb-usbip-\(UUID().uuidString.prefix(8))"
        try Data([1]).write(to: URL(fileURLWithPath: path))
        #expect(throws: USBError.self) { try USBIPSocket.listen(at: .unix(path: path)) }
        #expect(FileManager.default.fileExists(atPath: path))
        try FileManager.default.removeItem(atPath: path)
    }

    @Test("K4: whoever takes a byte in time isn't deaf")
    func watch() {
        var watch = USBIPReadingWatch()
        let start = ContinuousClock.now
        // Bytes waiting, seconds since the start.
        func isStuck(_ waiting: Int, _ time: Int) -> Bool {
            watch.isStuck(waiting, for: .seconds(12), now: start + .seconds(time))
        }
        watch.sent(100)
        #expect([isStuck(100, 0), isStuck(100, 11), isStuck(99, 12), isStuck(99, 23)] == [false, false, false, false])
        watch.sent(50)
        #expect([isStuck(149, 24), isStuck(0, 99)] == [true, false])
    }
}
