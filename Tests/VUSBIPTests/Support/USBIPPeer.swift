// SPDX-License-Identifier: Apache-2.0

import Foundation
import Synchronization
import Testing
import VUSBCore
import VUSBTestSupport

/// An importer at a listener: says what a test wants said, byte by byte, and keeps what it hears.
///
/// Concurrency model: the test sends; a thread of its own reads, once it's told to.
final class USBIPPeer: Sendable {
    enum Target: Sendable {
        case unix(String)
        case tcp(UInt16)
    }

    struct NobodyListens: Error {}

    let wire = USBIPWire()
    let heard = Inbox<USBIPHeard>()
    private let descriptor: Int32
    private let cursor = Mutex(0)
    /// Seqnums of IN transfers.
    private let incoming = Mutex<Set<UInt32>>([])

    init(_ target: Target) throws {
        switch target {
        case .unix(let path):
            descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
            var address = sockaddr_un()
            address.sun_family = sa_family_t(AF_UNIX)
            unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: path.utf8) }
            guard unsafe Self.connect(descriptor, &address) else { throw NobodyListens() }
        case .tcp(let port):
            descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = port.bigEndian
            address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
            guard unsafe Self.connect(descriptor, &address) else { throw NobodyListens() }
        }
    }

    private static func connect<Address>(_ descriptor: Int32, _ address: UnsafePointer<Address>) -> Bool {
        unsafe address.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            unsafe Foundation.connect(descriptor, $0, socklen_t(MemoryLayout<Address>.size)) == 0
        }
    }

    deinit { Foundation.close(descriptor) }

    // MARK: - Sending

    /// Waits until the kernel has taken all; false where the host has closed before.
    @discardableResult
    func send(_ bytes: [UInt8]) -> Bool {
        note(bytes)
        return sendRaw(bytes[...])
    }

    /// As `send`, in pieces of so many bytes.
    func send(_ bytes: [UInt8], pieces: Int) {
        note(bytes)
        for start in stride(from: 0, to: bytes.count, by: pieces) {
            sendRaw(bytes[start..<min(start + pieces, bytes.count)])
        }
    }

    /// Keeps in mind which answers have data: `bytes` begins with a command, or several are told of one by one.
    private func note(_ bytes: [UInt8]) {
        guard bytes.count >= 48, bytes[0..<4].elementsEqual([0, 0, 0, 1]), bytes[15] == 1 else { return }
        let seqnum = bytes[4..<8].reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
        expectData(seqnum)
    }

    /// For what is sent in one piece with others.
    func expectData(_ seqnum: UInt32) { incoming.withLock { _ = $0.insert(seqnum) } }

    @discardableResult
    private func sendRaw(_ bytes: ArraySlice<UInt8>) -> Bool {
        var rest = bytes
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

    /// No more is said.
    func finishSending() { shutdown(descriptor, Int32(SHUT_WR)) }

    /// Has the kernel send a reset: TCP only. Nobody may use it any more.
    func reset() {
        var linger = linger(l_onoff: 1, l_linger: 0)
        unsafe setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout<Foundation.linger>.size))
        // The number stays this one's: deinit closes it. Connecting to nowhere disconnects, with a reset.
        var nowhere = sockaddr(sa_family: sa_family_t(AF_UNSPEC), sa_data: (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0))
        unsafe Foundation.connect(descriptor, &nowhere, socklen_t(MemoryLayout<sockaddr>.size))
    }

    // MARK: - Hearing

    func startReading() {
        Thread.detachNewThread { [self] in
            var parser = USBIPHeardParser()
            var buffer = Array(repeating: UInt8(0), count: 256 << 10)
            while true {
                let count = unsafe recv(descriptor, &buffer, buffer.count, 0)
                guard count > 0 else { break }
                let messages = parser.parse(Array(buffer.prefix(count))) { seqnum in
                    incoming.withLock { $0.contains(seqnum) }
                }
                for message in messages { heard.append(message) }
            }
            heard.append(.closed)
        }
    }

    /// What is heard next; nil where nothing comes.
    func next() async -> USBIPHeard? { await next(1).first }

    func next(_ count: Int) async -> [USBIPHeard] {
        let start = cursor.withLock { $0 }
        let all = await heard.wait(for: start + count)
        let end = min(start + count, all.count)
        cursor.withLock { $0 = end }
        return Array(all[start..<end])
    }

    /// All that comes until the connection ends.
    func untilClosed() async -> [USBIPHeard] {
        var heard: [USBIPHeard] = []
        while let message = await next() {
            if message == .closed { return heard }
            heard.append(message)
        }
        Issue.record("the connection doesn't end")
        return heard
    }

    /// All bytes until the connection ends: instead of `startReading`.
    func bytesUntilClosed() async -> [UInt8] {
        let ended = Inbox<[UInt8]>()
        Thread.detachNewThread { [self] in
            var all: [UInt8] = []
            var buffer = Array(repeating: UInt8(0), count: 64 << 10)
            while true {
                let count = unsafe recv(descriptor, &buffer, buffer.count, 0)
                guard count > 0 else { break }
                all += buffer.prefix(count)
            }
            ended.append(all)
        }
        return await ended.wait(for: 1).first ?? []
    }
}
