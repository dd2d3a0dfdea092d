// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Synchronization
package import VUSBCore

/// Drives a session as a hostile peer may, for a fuzz target, which can't reach it otherwise.
package enum RedirFuzzing {
    /// Reads `input` as instructions: bytes of any kind, messages of which only the form is right, completions, quiet
    /// and resume, and whether the peer reads. Traps where a promise is broken: a URB that doesn't complete exactly
    /// once, a buffer that is lost, more memory for a peer than it may have.
    package static func run(_ input: [UInt8], descriptors: Descriptors) {
        guard let session = RedirFuzzSession(descriptors) else { return }
        var stream = FuzzStream(input)
        // More steps than that find nothing new, only more slowly.
        for _ in 0..<128 where !stream.isEmpty { session.step(&stream) }
        session.end()
    }
}

/// Concurrency model: the fuzzer's one thread does what the loop's would.
private final class RedirFuzzSession {
    private final class Flag: Sendable {
        let isSet = Atomic(false)
    }

    /// One that has ended, so that nobody else calls the session.
    private static let loop: RedirLoop? = {
        guard let loop = try? RedirLoop() else { return nil }
        let hasEnded = Flag()
        Task {
            await loop.stop()
            hasEnded.isSet.store(true, ordering: .releasing)
        }
        while !hasEnded.isSet.load(ordering: .acquiring) { sched_yield() }
        return loop
    }()

    private let session: RedirSession
    private let backend = FuzzBackend(isHolding: false)
    private let device: VirtualDevice
    private let peer: Int32
    private var hasLongIDs = false
    private var isDeaf = false

    init?(_ descriptors: Descriptors) {
        var ends: [Int32] = [-1, -1]
        let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
        guard let loop = Self.loop, unsafe socketpair(AF_UNIX, type, 0, &ends) == 0 else { return nil }
        peer = ends[1]
        device = VirtualDevice(
            backend: backend, descriptors: descriptors, speed: .high,
            configurationValue: descriptors.configurations.first?.bConfigurationValue ?? 0,
            pool: BufferPool(cacheLimit: 0))
        session = RedirSession(ends[0], device: device, loop: loop) { _ in }
        guard session.reader.begin(session, version: "fuzz") else { return nil }
    }

    deinit { close(peer) }

    func step(_ stream: inout FuzzStream) {
        switch stream.byte() & 15 {
        case 0: send(stream.take(Int(stream.byte())))
        case 1: hello(capabilities: stream.byte())
        case 2...8: send(message(&stream))
        case 9: for _ in 0...(stream.byte() % 16) { send(message(&stream)) }
        case 10...11: backend.completeOne(stream.byte())
        case 12: backend.isHolding.toggle()
        case 13: control(stream.byte())
        case 14: isDeaf.toggle()
        default: device.cancelAll()
        }
        session.turn()
        if !isDeaf { receive() }
        // What is waiting when it isn't read any more, and the answers to what was read until then.
        precondition(
            session.status.bytesWaiting <= RedirLimits.outboxHigh + VirtualDevice.bytesInFlightLimit)
    }

    /// Whatever happened, nothing is left.
    func end() {
        shutdown(peer, Int32(SHUT_RDWR))
        session.resume()
        session.turn()
        while backend.completeOne(0) {}
        session.turn()
        session.end(violation: nil)
        while backend.completeOne(0) {}
        precondition(session.isClosed)
        precondition(device.inFlight == 0)
        precondition(device.pool.outstanding == 0)
        precondition(backend.isBalanced)
    }

    private func control(_ choice: UInt8) {
        switch choice & 7 {
        case 0...1: session.quiet()
        case 2...5: session.resume()
        case 6: device.disconnect()
        default: session.give(.disconnect)
        }
    }

    // MARK: - The peer

    private func send(_ bytes: [UInt8]) {
        // What the kernel has no room for is lost: the session finds the cut.
        _ = unsafe Glibc.send(peer, bytes, bytes.count, Int32(MSG_NOSIGNAL))
    }

    private func receive() {
        var buffer: [UInt8] = Array(repeating: 0, count: 64 << 10)
        while unsafe recv(peer, &buffer, buffer.count, 0) > 0 { session.turn() }
    }

    private func hello(capabilities: UInt8) {
        send(frame(0, id: 0, Array(repeating: 0x61, count: 64) + [capabilities, 0, 0, 0]))
        hasLongIDs = capabilities & 0x20 != 0
    }

    private func frame(_ type: UInt8, id: UInt8, _ body: [UInt8]) -> [UInt8] {
        let count = body.count
        let length = [UInt8(truncatingIfNeeded: count), UInt8(truncatingIfNeeded: count >> 8), 0, 0]
        return [type, 0, 0, 0] + length + [id, 0, 0, 0] + (hasLongIDs ? [0, 0, 0, 0] : []) + body
    }

    /// A message whose size is right, for endpoints that there may be. Resets are left out: they'd be carried out on
    /// another thread, at a time that isn't the input's.
    private func message(_ stream: inout FuzzStream) -> [UInt8] {
        let types: [UInt8] = [
            6, 7, 9, 10, 12, 13, 15, 16, 18, 19, 21, 22, 23, 24, 25, 26, 100, 101, 101, 102, 102, 103,
        ]
        let type = types[Int(stream.byte()) % types.count]
        let endpoints: [UInt8] = [0x81, 0x02, 0x83, 0x04, 0x85, 0x06, 0x80, 0x00, stream.byte()]
        let endpoint = endpoints[Int(stream.byte()) % endpoints.count]
        let id = stream.byte() % 16
        return frame(type, id: id, body(type, endpoint, &stream))
    }

    private func body(_ type: UInt8, _ endpoint: UInt8, _ stream: inout FuzzStream) -> [UInt8] {
        switch type {
        case 6, 10: [stream.byte() % 4]
        case 9: [stream.byte() % 2, stream.byte() % 4]
        case 12: [endpoint, stream.byte() % 40, stream.byte() % 20]
        case 13, 15, 16: [endpoint]
        case 18: stream.take(8)
        case 19: stream.take(4)
        case 23: stream.take(Int(stream.byte() % 32)) + [0]
        case 25: [0, 0, 0, 0, stream.byte(), stream.byte(), stream.byte() % 2, 0, endpoint, stream.byte() % 40]
        case 26: [0, 0, 0, 0, endpoint]
        case 100: control(endpoint & 0x80, &stream)
        case 101: bulk(endpoint, &stream)
        case 102, 103: packet(endpoint, &stream)
        default: []
        }
    }

    private func control(_ endpoint: UInt8, _ stream: inout FuzzStream) -> [UInt8] {
        let setup = stream.take(6) + [0, 0, 0, 0, 0, 0]
        let count = stream.byte()
        let data = endpoint == 0 ? Array(repeating: 1, count: Int(count)) : [UInt8]()
        return [endpoint, setup[0], setup[1], 0] + setup[2..<6] + [count, 0] + data
    }

    private func bulk(_ endpoint: UInt8, _ stream: inout FuzzStream) -> [UInt8] {
        let count = [stream.byte(), stream.byte()]
        let header = [endpoint, 0] + count + [stream.byte() % 2, 0, 0, 0]
        // Without the capability there is no upper half.
        let high = stream.byte() % 4
        let isLong = session.state.withLock { $0.form.hasLongBulk }
        guard endpoint & 0x80 == 0 else { return header + (isLong ? [high, 0] : []) }
        let data = Array(repeating: UInt8(2), count: Int(count[0]) | Int(count[1]) << 8)
        return header + (isLong ? [0, 0] : []) + data
    }

    private func packet(_ endpoint: UInt8, _ stream: inout FuzzStream) -> [UInt8] {
        let count = Int(stream.byte()) << Int(stream.byte() % 4)
        let length = [UInt8(truncatingIfNeeded: count), UInt8(truncatingIfNeeded: count >> 8)]
        return [endpoint & 0x7f, 0] + length + Array(repeating: 3, count: count)
    }
}
