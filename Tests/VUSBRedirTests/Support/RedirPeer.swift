// SPDX-License-Identifier: Apache-2.0

import CUSBRedirParser
import Foundation
import Synchronization
import Testing
import VUSBTestSupport

/// A guest's side at a port's socket: says what a test wants said, byte by byte, and keeps what it hears.
///
/// Concurrency model: the test sends; a thread of its own reads, once it's told to.
final class RedirPeer: Sendable {
    struct NobodyListens: Error {
        let path: String
    }

    let wire: RedirWire
    let heard = Inbox<RedirHeard>()
    private let descriptor: Int32
    private let cursor = Mutex(0)

    init(path: String, _ capabilities: RedirCapabilities = .all) throws {
        wire = RedirWire(capabilities: capabilities)
        descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        guard descriptor >= 0 else { throw NobodyListens(path: path) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: path.utf8) }
        let result = unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        // All is initialised by now: deinit closes it.
        guard result == 0 else { throw NobodyListens(path: path) }
    }

    deinit { Foundation.close(descriptor) }

    // MARK: - Sending

    /// Waits until the kernel has taken all; false where the host has closed before.
    @discardableResult
    func send(_ bytes: [UInt8]) -> Bool {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = unsafe rest.withUnsafeBytes {
                unsafe Foundation.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
            guard count > 0 else { return false }
            rest = rest.dropFirst(count)
        }
        return true
    }

    /// Both ways, as a process that ends.
    func close() { shutdown(descriptor, Int32(SHUT_RDWR)) }

    // MARK: - Hearing

    func startReading() {
        let parser = RedirParserBox(RedirGuestParser(wire.capabilities))
        Thread.detachNewThread { [self] in
            var buffer = Array(repeating: UInt8(0), count: 64 << 10)
            while true {
                let count = unsafe recv(descriptor, &buffer, buffer.count, 0)
                guard count > 0 else { break }
                for message in parser.value.parse(Array(buffer.prefix(count))) { heard.append(message) }
            }
            heard.append(.closed)
        }
    }

    /// What is heard next; nil where nothing comes.
    func next() async -> RedirHeard? { await next(1).first }

    /// The next `count`; fewer where no more come.
    func next(_ count: Int) async -> [RedirHeard] {
        let start = cursor.withLock { $0 }
        let all = await heard.wait(for: start + count)
        let end = min(all.count, start + count)
        cursor.withLock { $0 = end }
        return Array(all[start..<end])
    }

    /// The next packet; nil where something else comes.
    func nextPacket() async -> RedirHeard.Packet? {
        guard case .packet(let packet)? = await next() else { return nil }
        return packet
    }

    /// Says something that is answered at once, and returns what comes before that answer.
    func all() async -> [RedirHeard] {
        send(wire.getConfiguration(0xfeed))
        var heard: [RedirHeard] = []
        while let message = await next() {
            if case .configuration(id: 0xfeed, _, _) = message { return heard }
            heard.append(message)
        }
        return heard
    }

    /// All that comes until the connection ends.
    func untilClosed() async -> [RedirHeard] {
        var heard: [RedirHeard] = []
        while let message = await next() {
            if message == .closed { return heard }
            heard.append(message)
        }
        Issue.record("the connection doesn't end")
        return heard
    }
}

/// Handed to the reading thread once.
private struct RedirParserBox: @unchecked Sendable {
    // SAFETY: nobody but the reading thread has it.
    let value: RedirGuestParser
    init(_ value: RedirGuestParser) { self.value = value }
}
