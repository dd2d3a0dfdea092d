// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
package import VUSBCore

/// Drives a channel as a hostile opener may, for a fuzz target, which can't reach it otherwise.
package enum HCDFuzzing {
    /// Reads `input` as instructions: writes of what follows, cut where it says, records of which only the frame is
    /// right, reads of any size, completions, plugs. Traps where a promise is broken: a URB that doesn't complete
    /// exactly once, a buffer that is lost, an answer longer than the read.
    package static func run(_ input: [UInt8], descriptors: Descriptors) {
        let session = HCDFuzzSession(descriptors)
        var stream = FuzzStream(input)
        // More steps than that find nothing new, only more slowly.
        for _ in 0..<512 where !stream.isEmpty { session.step(&stream) }
        session.end()
    }
}

private final class HCDFuzzSession {
    private let channel: HCDChannel
    private let session: HCDSession
    private let backends = [FuzzBackend(isHolding: true), FuzzBackend(isHolding: true)]
    private let devices: [VirtualDevice]

    init(_ descriptors: Descriptors) {
        let (_, events) = AsyncStream.makeStream(of: HCDChannelEvent.self, bufferingPolicy: .bufferingNewest(1))
        channel = HCDChannel(guest: "fuzz", events: events)
        guard let session = channel.open() else { preconditionFailure("a new channel can be opened") }
        self.session = session
        devices = backends.map { backend in
            VirtualDevice(
                backend: backend,
                descriptors: descriptors,
                speed: .high,
                configurationValue: descriptors.configurations.first?.bConfigurationValue ?? 0,
                pool: BufferPool(cacheLimit: 0)
            )
        }
        channel.attach(path: "1-1", devices[0])
    }

    func step(_ stream: inout FuzzStream) {
        switch stream.byte() & 15 {
        case 0: write(stream.take(Int(stream.byte())))
        case 1: write(Self.hello)
        case 2...7: write(record(&stream), cut: Int(stream.byte()))
        case 8...10: read(Int(stream.byte()) << (stream.byte() % 12) + 1)
        case 11: backends[0].completeOne(stream.byte())
        case 12: backends[1].completeOne(stream.byte())
        case 13: channel.attach(path: "1-2", devices[1])
        case 14: channel.detach(path: "1-2")
        default: control(stream.byte())
        }
    }

    /// Whatever happened, nothing is left.
    func end() {
        channel.close(session)
        for backend in backends { while backend.completeOne(0) {} }
        precondition(session.status.urbsInFlight == 0)
        for (device, backend) in zip(devices, backends) {
            precondition(device.inFlight == 0)
            precondition(device.pool.outstanding == 0)
            precondition(backend.isBalanced)
        }
    }

    private func control(_ choice: UInt8) {
        switch choice & 3 {
        case 0: _ = session.quiesce(UInt16(choice >> 2))
        case 1: session.resume(UInt16(choice >> 2))
        case 2: session.remove(UInt16(choice >> 2), orderly: true, isAwaited: true)
        default: session.remove(UInt16(choice >> 2), orderly: false, isAwaited: false)
        }
    }

    private func write(_ bytes: [UInt8]) {
        // SAFETY: the array outlives the call.
        unsafe bytes.withUnsafeBytes { _ = session.write(unsafe WriteData($0, in: nil)) }
    }

    private func write(_ bytes: [UInt8], cut: Int) {
        write(Array(bytes.prefix(cut)))
        write(Array(bytes.dropFirst(cut)))
    }

    private func read(_ size: Int) {
        guard case .output(var output) = session.beginRead() else { return }
        session.fill(&output, size: size)
        let count = output.bytes().count
        precondition(count == output.count && count <= size)
        session.endRead(output)
    }

    /// A record whose size is right, for devices and slots that there may be. Resets are left out: they'd be carried
    /// out on another thread, at a time that isn't the input's.
    private func record(_ stream: inout FuzzStream) -> [UInt8] {
        var record = HCDRecord(.ping)
        let type = UInt16(stream.byte() % 18)
        record.type = type == HCDRecord.Kind.reset.rawValue ? HCDRecord.Kind.submit.rawValue : type
        record.device = UInt16(stream.byte() % 4)
        record.id = UInt64(stream.byte() % 8) | UInt64(stream.byte() % 4) << 16
        var payload: [UInt8] = []
        if record.kind == .submit {
            var submit = HCDRecord.Submit()
            submit.endpoint = [0x81, 0x02, 0x83, 0x04, 0x00, stream.byte()][Int(stream.byte() % 6)]
            submit.transfer = stream.byte() % 5
            submit.flags = UInt16(stream.byte() % 4)
            submit.length = UInt32(stream.byte()) << UInt32(stream.byte() % 16)
            submit.setup = SetupPacket(stream.take(8).span) ?? submit.setup
            if submit.transfer == HCDRecord.Transfer.isochronous { submit.packets = UInt16(stream.byte() % 9) }
            record.submit = submit
            if submit.payloadSize <= 1 << 20 { payload = stream.take(submit.payloadSize) }
            payload += Array(repeating: 0, count: max(0, min(submit.payloadSize, 1 << 20) - payload.count))
        }
        record.size = UInt32(HCDRecord.byteCount + payload.count)
        return Self.bytes(record, payload)
    }

    private static let hello: [UInt8] = {
        var record = HCDRecord(.hello)
        record.hello = HCDRecord.Hello()
        return bytes(record, [])
    }()

    private static func bytes(_ record: HCDRecord, _ payload: [UInt8]) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: HCDRecord.byteCount)
        // SAFETY: the array has as many bytes as a record.
        unsafe bytes.withUnsafeMutableBytes { target in
            if let base = target.baseAddress { unsafe record.write(to: base) }
        }
        bytes += payload
        return bytes + Array(repeating: 0, count: HCDRecord.padding(bytes.count))
    }
}
