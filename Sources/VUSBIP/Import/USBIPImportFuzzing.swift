// SPDX-License-Identifier: Apache-2.0

internal import NIOCore
internal import Synchronization
package import VUSBCore

extension USBIPFuzzing {
    /// As `run`, for what servers say: `input` is what a guest does, answers that fit, and bytes of any kind, cut anywhere.
    /// Traps where a URB doesn't end exactly once, a buffer is lost, or a slot.
    package static func runClient(_ input: [UInt8], descriptors: Descriptors) {
        readOperations(input)
        let session = USBIPImportFuzzSession(descriptors)
        var stream = FuzzStream(input)
        // More steps than that find nothing new, only more slowly.
        for _ in 0..<128 where !stream.isEmpty { session.step(&stream) }
        session.end()
    }

    private static func readOperations(_ input: [UInt8]) {
        var list = USBIPListReader()
        var answer = USBIPImportReader(busID: "1-1")
        for start in stride(from: 0, to: input.count, by: 7) {
            let piece = Array(input[start..<min(start + 7, input.count)])
            // SAFETY: a view of bytes, for the call. What is thrown is what a try ends with.
            if let list = try? list.take(unsafe piece.span.bytes) {
                precondition(list.offers.count + list.leftOut.count <= USBIPListReader.maximumDevices)
                break
            }
        }
        var position = 0
        // SAFETY: as above.
        _ = try? answer.take(unsafe input.span.bytes, &position)
        precondition(position <= input.count)
    }
}

/// Concurrency model: the fuzzer's one thread does what the loop's and a guest's would.
private final class USBIPImportFuzzSession: URBHandler, @unchecked Sendable {
    private final class Backend: USBBackend {
        let session: USBIPImportSession
        init(_ session: USBIPImportSession) { self.session = session }
        func submit(_ urb: consuming URB) { session.submit(urb) }
        func cancel(_ token: URBToken) { session.cancel(token) }
        func reset() async throws(USBError) {}
        func close() async {}
    }

    private let session: USBIPImportSession
    private let device: VirtualDevice
    private let descriptors: Descriptors
    // SAFETY: from here on all is the one thread's.
    private var tokens: [URBToken] = []
    private var submitted = 0
    private var completed = 0
    private var isGone = false
    private var sent: [ByteBuffer] = []
    private var lastSeqnum: UInt32 = 0

    init(_ descriptors: Descriptors) {
        self.descriptors = descriptors
        let bytes = [UInt8](repeating: 0, count: USBIPNumbers.pathBytes + USBIPNumbers.busIDBytes + 11) + [3]
        let record = bytes + [UInt8](repeating: 0, count: USBIPNumbers.recordBytes - bytes.count)
        // SAFETY: a view of bytes, for the call.
        guard let record = try? USBIPImportRecord(unsafe record.span.bytes) else {
            preconditionFailure("a record of constants")
        }
        session = USBIPImportSession(record, ByteBufferAllocator()) {
        } cut: { _ in
        }
        let value = descriptors.configurations.first?.bConfigurationValue ?? 0
        session.descriptors = descriptors
        session.state.withLock { $0.settings = ActiveSettings(descriptors, configurationValue: value) }
        device = VirtualDevice(
            backend: Backend(session), descriptors: descriptors, speed: .high, configurationValue: value,
            pool: BufferPool(cacheLimit: 0))
    }

    func urbCompleted(_ urb: consuming URB) { completed += 1 }

    func step(_ stream: inout FuzzStream) {
        switch stream.byte() & 15 {
        case 0: hear(stream.take(Int(stream.byte())), Int(stream.byte()))
        case 1...5: submit(&stream)
        case 6: if !tokens.isEmpty { device.cancel(tokens[Int(stream.byte()) % tokens.count]) }
        case 7: hear(header(4, &stream), Int(stream.byte()))
        case 8: device.cancelAll()
        case 9: send()
        default: hear(answer(&stream), Int(stream.byte()))
        }
    }

    /// Whatever happened, nothing is left.
    func end() {
        session.end()
        precondition(submitted == completed)
        precondition(session.inUse == 0 && device.inFlight == 0 && device.pool.outstanding == 0)
    }

    // MARK: - The guest

    private func submit(_ stream: inout FuzzStream) {
        submitted += 1
        let choice = stream.byte()
        if choice < 32 {
            let setup: SetupPacket =
                choice < 16
                ? .setInterface(InterfaceNumber(rawValue: 0), alternate: choice % 2) : .setConfiguration(choice % 2)
            let urb = URB(
                endpoint: .control, setup: setup, buffer: nil, requestedLength: 0, handler: self, context: 0)
            return tokens.append(device.submit(urb))
        }
        let endpoints = device.settings.endpoints
        guard !endpoints.isEmpty else {
            submitted -= 1
            return
        }
        let endpoint = endpoints[Int(choice) % endpoints.count]
        let count = Int(stream.byte() % 8) + 1
        let length = Int(stream.byte()) * (endpoint.transferType == .isochronous ? count : 8)
        var urb = URB(
            endpoint: endpoint.bEndpointAddress, buffer: device.pool.take(length), requestedLength: length,
            handler: self, context: 0)
        if endpoint.transferType == .isochronous { urb.packets = packets(count, length) }
        tokens.append(device.submit(urb))
    }

    private func packets(_ count: Int, _ length: Int) -> IsoPacketTable? {
        var table = IsoPacketTable(count: count, from: device.pool)
        let each = UInt32(length / count)
        for index in 0..<count { table?[index] = IsoPacket(offset: UInt32(index) * each, length: each) }
        return table
    }

    // MARK: - The server

    private func hear(_ bytes: [UInt8], _ piece: Int) {
        var rest = bytes[...]
        while !isGone, !rest.isEmpty {
            let next = Array(rest.prefix(max(1, piece)))
            rest = rest.dropFirst(next.count)
            do {
                // SAFETY: a view of bytes, for the call.
                try session.receive(unsafe next.span.bytes)
            } catch {
                isGone = true
                session.end()
            }
        }
        send()
    }

    private func send() {
        while session.turn() { take() }
        take()
    }

    private func take() {
        session.outgoing.give(to: &sent)
        for message in sent {
            guard let seqnum = message.getInteger(at: message.readerIndex + 4, as: UInt32.self) else { continue }
            lastSeqnum = max(lastSeqnum, seqnum)
        }
        sent.removeAll()
    }

    private func header(_ command: UInt32, _ stream: inout FuzzStream) -> [UInt8] {
        words([command, seqnum(&stream), 0, 0, 0, status(&stream), 0, 0, 0, 0, 0, 0])
    }

    private func answer(_ stream: inout FuzzStream) -> [UInt8] {
        let length = UInt32(stream.byte()) << UInt32(stream.byte() % 16)
        let packets = UInt32(stream.byte() % 10)
        let header = words([3, seqnum(&stream), 0, 0, 0, status(&stream), length, 0, packets, 0, 0, 0])
        let data = [UInt8](repeating: 1, count: Int(length & 0x7ff))
        return header + data + (0..<packets).flatMap { _ in words([0, 0, UInt32(stream.byte()), status(&stream)]) }
    }

    private func seqnum(_ stream: inout FuzzStream) -> UInt32 { lastSeqnum &- UInt32(stream.byte() % 16) }

    private func status(_ stream: inout FuzzStream) -> UInt32 {
        [0, 0, UInt32(bitPattern: -104), UInt32(bitPattern: -32)][Int(stream.byte() % 4)]
    }

    private func words(_ words: [UInt32]) -> [UInt8] {
        words.flatMap { word in (0..<4).map { UInt8(truncatingIfNeeded: word >> (24 - 8 * UInt32($0))) } }
    }
}
