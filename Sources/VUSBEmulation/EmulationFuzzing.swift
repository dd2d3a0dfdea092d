// SPDX-License-Identifier: Apache-2.0

import Glibc
import Synchronization
import VUSBCore

/// Drives a device with bytes that mean nothing: what a hostile guest may send. A fuzz target calls it once for each
/// input.
package enum EmulationFuzzing {
    private static let kinds: [Blueprint.Kind] = [DiskModel.kind, SerialModel.kind, ZeroModel.kind, KeyboardModel.kind]

    /// Reads `input` as a choice of device and then a stream of transfers: setup packets with their data, bulk data,
    /// command wrappers of which only the frame is right, cancels, unplug. Traps where a promise is broken: a URB that
    /// doesn't complete exactly once, a buffer that is lost, a result beyond what was asked for.
    package static func run(_ input: [UInt8]) {
        var stream = FuzzStream(input)
        let kind = kinds[Int(stream.byte()) % kinds.count]
        let speed = kind.speeds[Int(stream.byte()) % kind.speeds.count]
        let session: FuzzSession
        do {
            let blueprint = try Blueprint(kind, speed: speed)
            session = FuzzSession(unit: try makeUnit(kind, blueprint), blueprint: blueprint)
        } catch {
            preconditionFailure("no \(kind.name) to drive: \(error)")
        }
        // More operations than that find nothing new, only more slowly.
        var left = 256
        while !stream.isEmpty, left > 0 {
            session.step(&stream)
            left -= 1
        }
        session.end()
    }

    private static func makeUnit(_ kind: Blueprint.Kind, _ blueprint: Blueprint) throws -> any EmulatedUnit {
        let clock = PaceClock()
        func device<Model: DeviceModel>(_ model: Model) -> any EmulatedUnit {
            EmulatedDevice(id: DeviceID("emu-fuzz"), blueprint: blueprint, model: model, serial: "F", clock: clock)
        }
        switch kind.name {
        case "disk": return device(DiskModel(image: try image(), serial: "F"))
        case "serial": return device(SerialModel())
        case "zero": return device(ZeroModel(pattern: .mod63, speed: blueprint.speed))
        default: return device(KeyboardModel())
        }
    }

    /// Each has a file of its own: several may be driven at once.
    private static let images = Atomic<Int>(0)

    /// 64 KiB in memory, without a name as soon as it's open.
    private static func image() throws(USBError) -> ImageFile {
        let number = images.wrappingAdd(1, ordering: .relaxed).newValue
        let path = "/dev/shm/vusb-fuzz-\(getpid())-\(number)"
        let descriptor = unsafe open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw USBError(.io, "open of \(path): errno \(errno)") }
        defer {
            close(descriptor)
            // It's gone with the process at the latest.
            unsafe unlink(path)
        }
        guard ftruncate(descriptor, 65536) == 0 else { throw USBError(.io, "ftruncate of \(path): errno \(errno)") }
        return try ImageFile(path: path, readOnly: false)
    }
}

/// The fuzzer's bytes, taken from the front; zeros behind the end.
/// One device and the URBs that are out.
///
/// Concurrency model: one thread submits; the device's own may complete. The counters are behind one `Mutex`, a leaf.
private final class FuzzSession: URBHandler {
    private struct Counts {
        var submitted = 0
        var completed: Set<UInt64> = []
        var last = URBToken.none
    }

    private let unit: any EmulatedUnit
    private let device: VirtualDevice
    private let pool = BufferPool()
    private let counts = Mutex(Counts())
    private let condition = WaitCondition()

    init(unit: any EmulatedUnit, blueprint: Blueprint) {
        self.unit = unit
        do { try unit.open() } catch { preconditionFailure("a new device can't be opened: \(error)") }
        device = VirtualDevice(
            backend: unit,
            descriptors: blueprint.descriptors,
            speed: blueprint.speed,
            configurationValue: 1,
            pool: pool
        )
    }

    func step(_ stream: inout FuzzStream) {
        switch stream.byte() % 8 {
        case 0: control(&stream)
        case 1: transfer(stream.byte() & 0x0f, stream.take(Int(stream.word() % 2048)))
        case 2: transfer(stream.byte() | 0x80, count: Int(stream.word()))
        case 3: command(&stream)
        // The common way of a disk, so that sequences get beyond their first step.
        case 4: transfer(0x81, count: 512 * Int(stream.byte() % 8))
        case 5: transfer(0x81, count: 13)
        case 6: device.cancel(counts.withLock { $0.last })
        default: if stream.byte() == 0xff { unit.unplug() }
        }
    }

    private func control(_ stream: inout FuzzStream) {
        let setup = SetupPacket(
            bmRequestType: stream.byte(),
            bRequest: stream.byte(),
            wValue: stream.word(),
            wIndex: stream.word(),
            wLength: stream.word() & 0x1fff
        )
        let count = Int(setup.wLength)
        var buffer = pool.take(count)
        if setup.direction == .out { buffer?.copy(stream.take(min(count, 64))) }
        submit(.control, buffer, count, setup)
    }

    private func command(_ stream: inout FuzzStream) {
        let length = stream.word()
        let flags = stream.byte() & 0x80
        let block = stream.take(16)
        var wrapper: [UInt8] = [0x55, 0x53, 0x42, 0x43, 1, 2, 3, 4]
        wrapper += [UInt8(truncatingIfNeeded: length), UInt8(length >> 8), 0, 0, flags, 0, UInt8(max(1, block.count))]
        wrapper += block + Array(repeating: 0, count: 16 - block.count)
        transfer(0x02, wrapper)
    }

    private func transfer(_ endpoint: UInt8, _ bytes: [UInt8]) {
        var buffer = pool.take(bytes.count)
        buffer?.copy(bytes)
        submit(EndpointAddress(rawValue: endpoint), buffer, bytes.count, nil)
    }

    private func transfer(_ endpoint: UInt8, count: Int) {
        submit(EndpointAddress(rawValue: endpoint), pool.take(count), count, nil)
    }

    private func submit(
        _ endpoint: EndpointAddress,
        _ buffer: consuming TransferBuffer?,
        _ count: Int,
        _ setup: SetupPacket?
    ) {
        let number = counts.withLock { counts in
            counts.submitted += 1
            return counts.submitted
        }
        let urb = URB(
            endpoint: endpoint,
            setup: setup,
            buffer: buffer,
            requestedLength: count,
            handler: self,
            context: UInt64(number)
        )
        let token = device.submit(urb)
        counts.withLock { $0.last = token }
    }

    func urbCompleted(_ urb: consuming URB) {
        precondition(urb.actualLength >= 0 && urb.actualLength <= urb.requestedLength)
        let isFirst = counts.withLock { $0.completed.insert(urb.context).inserted }
        precondition(isFirst, "a URB completed twice")
        condition.signal()
    }

    /// Unplugs, and waits for what the device's own thread still has.
    func end() {
        unit.unplug()
        let deadline = monotonicNow() + 5_000_000_000
        while counts.withLock({ $0.completed.count < $0.submitted }) {
            precondition(condition.wait(until: deadline), "a URB never completed")
        }
        // A URB counts as in flight until its handler has returned, which may take the device's thread a moment more.
        while device.inFlight > 0, monotonicNow() < deadline { sched_yield() }
        precondition(device.inFlight == 0, "\(device.inFlight) URBs are in flight though all have completed")
    }
}
