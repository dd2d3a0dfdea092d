// SPDX-License-Identifier: Apache-2.0

internal import NIOCore
internal import Synchronization
package import VUSBCore

/// Drives the readers of what peers say as a hostile one may, for a fuzz target, which can't reach them otherwise.
package enum USBIPFuzzing {
    /// Reads `input` as instructions: bytes of any kind, commands of which only the form is right, cut anywhere,
    /// completions, cancels. Traps where a promise is broken: a URB that doesn't complete exactly once, a buffer that is
    /// lost, an answer that nobody has asked for.
    package static func run(_ input: [UInt8], descriptors: Descriptors) {
        readRequest(input)
        // Only that it returns.
        _ = CertificateName.commonName(input)
        let session = USBIPFuzzSession(descriptors)
        var stream = FuzzStream(input)
        // More steps than that find nothing new, only more slowly.
        for _ in 0..<128 where !stream.isEmpty { session.step(&stream) }
        session.end()
    }

    private static func readRequest(_ input: [UInt8]) {
        var reader = USBIPRequestReader()
        for byte in input.prefix(64) {
            // SAFETY: a view of bytes, for the call.
            guard let (request, count) = try? reader.take(unsafe [byte].span.bytes) else { return }
            precondition(count == 1)
            if case .importDevice(let busID) = request { precondition(busID.count < USBIPNumbers.busIDBytes) }
            if request != nil { return }
        }
    }
}

/// Concurrency model: the fuzzer's one thread does what the loop's would.
private final class USBIPFuzzSession {
    private static let deviceID: UInt32 = 0x0001_0002

    private let session: USBIPSession
    private let backend = FuzzBackend(isHolding: false)
    private let device: VirtualDevice
    private var isGone = false
    private var answers = 0
    private var commands = 0

    init(_ descriptors: Descriptors) {
        device = VirtualDevice(
            backend: backend, descriptors: descriptors, speed: .high,
            configurationValue: descriptors.configurations.first?.bConfigurationValue ?? 0,
            pool: BufferPool(cacheLimit: 0))
        session = USBIPSession(device, deviceID: Self.deviceID, peer: "fuzz", ByteBufferAllocator()) {}
    }

    func step(_ stream: inout FuzzStream) {
        switch stream.byte() & 15 {
        case 0: say(stream.take(Int(stream.byte())), pieces: Int(stream.byte()))
        case 1...8: say(command(&stream), pieces: Int(stream.byte()))
        case 9:
            var all: [UInt8] = []
            for _ in 0...(stream.byte() % 16) { all += command(&stream) }
            say(all, pieces: 1 << 16)
        case 10...12: backend.completeOne(stream.byte())
        case 13: backend.isHolding.toggle()
        case 14: device.cancelAll()
        default: if stream.byte() == 0 { device.disconnect() }
        }
        receive()
    }

    /// Whatever happened, nothing is left.
    func end() {
        var isOver = false
        session.end { isOver = true }
        while backend.completeOne(0) {}
        receive()
        precondition(isOver)
        precondition(session.inFlight == 0 && session.state.withLock { $0.bytesInFlight } == 0)
        precondition(device.inFlight == 0)
        precondition(device.pool.outstanding == 0)
        precondition(backend.isBalanced)
    }

    // MARK: - The peer

    private func say(_ bytes: [UInt8], pieces: Int) {
        var rest = bytes[...]
        while !isGone, !rest.isEmpty {
            let piece = Array(rest.prefix(max(1, pieces)))
            // SAFETY: a view of bytes, for the call.
            guard let count = try? session.receive(unsafe piece.span.bytes) else {
                isGone = true
                return
            }
            rest = rest.dropFirst(count)
            receive()
        }
    }

    /// As many answers as commands, at most, and each one's data with it.
    private func receive() {
        session.answer { sent in
            for message in sent {
                // How long an answer is isn't known without its command: at least each batch begins with one.
                let command = message.getInteger(at: message.readerIndex, as: UInt32.self)
                precondition(command == USBIPNumbers.replySubmit || command == USBIPNumbers.replyUnlink)
                precondition(message.readableBytes >= USBIPNumbers.headerBytes)
            }
            sent.removeAll()
        }
    }

    private func command(_ stream: inout FuzzStream) -> [UInt8] {
        let seqnum = UInt32(stream.byte() % 16)
        let choice = stream.byte()
        if choice % 4 == 0 {
            return words([2, seqnum, Self.deviceID, 0, 0, UInt32(stream.byte() % 16), 0, 0, 0, 0, 0, 0])
        }
        let endpoint = UInt32(choice % 8)
        let isIn = stream.byte() % 2
        var length = UInt32(stream.word()) << UInt32(stream.byte() % 6)
        // Whole data for them would be most of the input.
        if isIn == 0 { length &= 0xff }
        let packets = endpoint == 3 || endpoint == 4 ? UInt32(stream.byte() % 8) : 0xffff_ffff
        let setup = stream.take(6) + [0, 0, 0, 0, 0, 0]
        let count = UInt8(truncatingIfNeeded: length)
        let header =
            words([1, seqnum, Self.deviceID, UInt32(isIn), endpoint, UInt32(stream.byte()), length, 0, packets, 0])
            + (endpoint == 0
                ? Array(setup.prefix(6)) + [count, UInt8(truncatingIfNeeded: length >> 8)] : Array(setup.prefix(8)))
        return header + (isIn == 0 ? Array(repeating: 1, count: Int(length)) : []) + descriptions(packets, &stream)
    }

    private func descriptions(_ count: UInt32, _ stream: inout FuzzStream) -> [UInt8] {
        guard count <= IsoPacketTable.maximumCount else { return [] }
        return (0..<count).flatMap { _ in
            words([UInt32(stream.byte()) << UInt32(stream.byte() % 32), UInt32(stream.byte()), 0, 0])
        }
    }

    private func words(_ words: [UInt32]) -> [UInt8] {
        words.flatMap { word in (0..<4).map { UInt8(truncatingIfNeeded: word >> (24 - 8 * UInt32($0))) } }
    }
}
