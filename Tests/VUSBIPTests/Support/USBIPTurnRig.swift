// SPDX-License-Identifier: Apache-2.0

import Foundation
import NIOCore
import Synchronization
import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBIP

/// A session without its connection: the test is the loop, on a thread of its own choice.
final class USBIPTurnRig: Sendable {
    let session: USBIPSession
    let device: VirtualDevice
    let backend: ScriptedBackend
    let wire = USBIPWire()
    /// One for each time that the loop was woken.
    let wakes = Inbox<Int>()
    private let sockets: (host: Int32, peer: Int32)
    private let parser = Mutex(USBIPHeardParser(hasImported: true))

    /// - Parameters:
    ///   - sendBuffer: of the host's socket, in bytes; nil for the usual.
    ///   - isDirect: from the beginning.
    ///   - isDatagram: the socket tells one write from another.
    init(
        _ backend: ScriptedBackend, sendBuffer: Int32? = nil, isDirect: Bool = true, isDatagram: Bool = false
    ) throws {
        self.backend = backend
        device = VirtualDevice(
            backend: backend, descriptors: DescriptorBytes.fullZero, speed: .high, configurationValue: 1,
            pool: BufferPool())
        session = USBIPSession(device, deviceID: 0x0001_0002, peer: "test", ByteBufferAllocator()) { [wakes] in
            wakes.append(1)
        }
        var pair: [Int32] = [-1, -1]
        let type = isDatagram ? SOCK_SEQPACKET : SOCK_STREAM
        try #require(unsafe socketpair(AF_UNIX, Int32(type.rawValue), 0, &pair) == 0)
        sockets = (pair[0], pair[1])
        if var sendBuffer {
            unsafe setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &sendBuffer, socklen_t(MemoryLayout<Int32>.size))
        }
        session.setSender(USBIPSender(pair[0]))
        if isDirect { session.noteLoopIsEmpty() }
    }

    deinit {
        close(sockets.host)
        close(sockets.peer)
    }

    // MARK: - As the loop

    func receive(_ bytes: [UInt8]) throws {
        // SAFETY: a view of bytes, for the call.
        #expect(try session.receive(unsafe bytes.span.bytes) == bytes.count)
    }

    /// - Returns: what wasn't sent directly.
    @discardableResult
    func answer() -> [UInt8] {
        var all: [UInt8] = []
        session.answer { messages in
            for message in messages { all += Array(message.readableBytesView) }
            messages.removeAll()
        }
        return all
    }

    // MARK: - As the peer

    func hangUp() { shutdown(sockets.peer, Int32(SHUT_RDWR)) }

    /// What is there; nothing is waited for.
    func received() -> [UInt8] {
        var all: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            let count = unsafe recv(sockets.peer, &buffer, buffer.count, Int32(MSG_DONTWAIT))
            guard count > 0 else { return all }
            all += buffer.prefix(count)
        }
    }

    /// One write, where the socket tells them apart.
    func receivedOnce() -> [UInt8] {
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        let count = unsafe recv(sockets.peer, &buffer, buffer.count, Int32(MSG_DONTWAIT))
        return Array(buffer.prefix(max(0, count)))
    }

    /// - Parameter isIn: whether a seqnum is that of an IN transfer.
    func heard(_ bytes: [UInt8], isIn: (UInt32) -> Bool = { _ in true }) -> [USBIPHeard] {
        parser.withLock { $0.parse(bytes, isIn: isIn) }
    }

    func finish() async {
        await device.close()
        #expect(device.inFlight == 0 && device.pool.outstanding == 0)
        #expect(backend.verify() == [])
    }
}
