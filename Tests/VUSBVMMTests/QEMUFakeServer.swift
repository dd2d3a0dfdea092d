// SPDX-License-Identifier: Apache-2.0

import Foundation
import Glibc
import VUSBCore

@testable import VUSBVMM

/// Plays the other side of a Unix socket: QEMU, or a guest's agent.
///
/// Concurrency model: any task, one call at a time for a server or a peer. Blocking calls run on a thread each: queues
/// have too few when all tests wait at once. They end after 20 s, which only matters to a test that fails.
final class FakeServer: Sendable {
    let path: String
    private let directory: URL
    private let descriptor: Int32

    init(backlog: Int32 = 8) throws {
        directory = FileManager.default.temporaryDirectory.appendingPathComponent(
            "vusb-\(UInt32.random(in: 0 ... .max))")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: false)
        path = directory.appendingPathComponent("socket").path
        descriptor = try Self.listen(path, backlog)
    }

    deinit {
        Glibc.close(descriptor)
        // What is left of a test in /tmp harms nobody.
        try? FileManager.default.removeItem(at: directory)
    }

    private static func listen(_ path: String, _ backlog: Int32) throws -> Int32 {
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        // SAFETY: paths of tests are short; copyBytes traps on one that isn't.
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: Array(path.utf8)) }
        // SAFETY: `address` is whole; bind only reads it.
        let bound = unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard bound == 0, Glibc.listen(descriptor, backlog) == 0 else { throw POSIXError(.EIO) }
        return descriptor
    }

    /// Nobody can connect any more, and the file is gone, as when QEMU has ended.
    func stop() {
        shutdown(descriptor, Int32(SHUT_RDWR))
        // Nothing else knows the file.
        try? FileManager.default.removeItem(atPath: path)
    }

    func accept() async throws -> FakePeer {
        let descriptor = descriptor
        let accepted = await withCheckedContinuation { continuation in
            Thread.detachNewThread {
                var poll = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
                // SAFETY: one pollfd, as said.
                let ready = unsafe Glibc.poll(&poll, 1, 20_000)
                continuation.resume(returning: ready == 1 ? Glibc.accept(descriptor, nil, nil) : -1)
            }
        }
        guard accepted >= 0 else { throw POSIXError(.ETIMEDOUT) }
        return FakePeer(accepted)
    }

    /// Accepts, greets as QEMU does, and answers qmp_capabilities.
    func acceptQMP() async throws -> FakePeer {
        let peer = try await accept()
        await peer.send(FakePeer.greeting)
        let command = try await peer.message()
        guard command["execute"] == "qmp_capabilities" else { throw POSIXError(.EPROTO) }
        try await peer.answer(command)
        return peer
    }

    /// The same, and `query-status`, the first thing that a monitor asks.
    func acceptMonitor(status: String) async throws -> FakePeer {
        let peer = try await acceptQMP()
        let command = try await peer.message()
        guard command["execute"] == "query-status" else { throw POSIXError(.EPROTO) }
        try await peer.answer(command, ["status": .string(status), "running": .bool(status == "running")])
        return peer
    }

    /// Accepts, and answers the agent's sync.
    func acceptAgent() async throws -> FakePeer {
        let peer = try await accept()
        try await peer.sync()
        return peer
    }
}

/// Concurrency model: see `FakeServer`.
final class FakePeer: @unchecked Sendable {
    /// As QEMU 7.2's.
    static let greeting =
        #"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian"}, "capabilities": ["oob"]}}"#

    private let descriptor: Int32
    // SAFETY: touched by one call at a time, which is the test's to keep.
    private var received: [UInt8] = []

    init(_ descriptor: Int32) {
        self.descriptor = descriptor
        var limit = timeval(tv_sec: 20, tv_usec: 0)
        for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
            // SAFETY: setsockopt reads one timeval.
            unsafe setsockopt(descriptor, SOL_SOCKET, option, &limit, socklen_t(MemoryLayout<timeval>.size))
        }
    }

    deinit { Glibc.close(descriptor) }

    /// Both directions, at once; the client sees the end of the stream.
    func close() { shutdown(descriptor, Int32(SHUT_RDWR)) }

    func send(_ line: String) async { await send(Array((line + "\n").utf8)) }

    func send(_ message: JSONValue) async { await send(message.bytes + [0x0A]) }

    /// Sends as much as the client takes; a client that has closed isn't an error here.
    func send(_ bytes: [UInt8]) async {
        await withCheckedContinuation { continuation in
            Thread.detachNewThread { [descriptor] in
                var rest = bytes[...]
                while !rest.isEmpty {
                    // SAFETY: send reads the bytes, during the call.
                    let count = unsafe rest.withUnsafeBytes {
                        unsafe Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
                    }
                    guard count > 0 else { break }
                    rest = rest.dropFirst(count)
                }
                continuation.resume()
            }
        }
    }

    /// The next line; nil when the client has closed.
    func line() async -> [UInt8]? {
        await withCheckedContinuation { continuation in
            Thread.detachNewThread { continuation.resume(returning: self.readLine()) }
        }
    }

    private func readLine() -> [UInt8]? {
        while true {
            if let end = received.firstIndex(of: 0x0A) {
                defer { received.removeFirst(end + 1) }
                return Array(received[..<end])
            }
            var buffer = [UInt8](repeating: 0, count: 1 << 16)
            // SAFETY: recv writes no more than the buffer has.
            let count = unsafe recv(descriptor, &buffer, buffer.count, 0)
            guard count > 0 else { return nil }
            received += buffer[..<count]
        }
    }

    /// The next line as a command; bytes 0xFF in front are dropped, as the agent does.
    func message() async throws -> JSONValue {
        guard let line = await line(), let value = JSONValue(parsing: Array(line.drop { $0 == 0xFF })) else {
            throw POSIXError(.ECONNRESET)
        }
        return value
    }

    /// Answers a QMP command, with its id.
    func answer(_ command: JSONValue, _ value: JSONValue = [:]) async throws {
        await send(["return": value, "id": command["id"] ?? .null])
    }

    func event(_ name: String, _ data: JSONValue = [:]) async {
        await send(["event": .string(name), "data": data, "timestamp": ["seconds": 1, "microseconds": 0]])
    }

    /// Answers `guest-sync-delimited`.
    func sync() async throws {
        let command = try await message()
        guard command["execute"] == "guest-sync-delimited", let id = command["arguments"]?["id"] else {
            throw POSIXError(.EPROTO)
        }
        await send([0xFF] + (["return": id] as JSONValue).bytes + [0x0A])
    }

    /// Expects an agent's command and answers it.
    /// - Returns: the command's arguments.
    @discardableResult
    func expect(_ name: String, answer: JSONValue) async throws -> JSONValue {
        let command = try await message()
        guard command["execute"] == .string(name) else { throw Unexpected(command: command, expected: name) }
        await send(["return": answer])
        return command["arguments"] ?? [:]
    }

    struct Unexpected: Error {
        let command: JSONValue
        let expected: String
    }
}
