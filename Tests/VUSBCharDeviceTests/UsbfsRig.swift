// SPDX-License-Identifier: Apache-2.0

import Glibc
import Synchronization
import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBCharDevice

/// A clock that a test moves.
final class FakeClock: UsbfsClock {
    private let wakes = Mutex<[(UsbfsSession, ContinuousClock.Instant)]>([])

    func wake(_ session: UsbfsSession, at deadline: ContinuousClock.Instant) {
        wakes.withLock { $0.append((session, deadline)) }
    }

    /// All that was asked for is over.
    func advance() {
        let due = wakes.withLock { wakes in
            defer { wakes = [] }
            return wakes
        }
        for (session, deadline) in due {
            if let next = session.checkTime(deadline) { wake(session, at: next) }
        }
    }
}

/// A poller that counts how often it's told.
final class FakePoller: UsbfsPolled {
    let told = Inbox<Int>()
    func notify() { told.append(1) }
}

/// `struct usbdevfs_urb` of a 64-bit program.
struct TestUsbfsURB {
    var type: UInt8 = 3
    var endpoint: UInt8 = 0x81
    var flags: UInt32 = 0
    var buffer: UInt64 = UsbfsRig.buffer
    var length: UInt32 = 512
    var packetsOrStream: UInt32 = 0
    var signal: UInt32 = 0
    var packets: [UInt32] = []

    var bytes: [UInt8] {
        let head: [UInt8] = [type, endpoint, 0, 0] + UsbfsRig.word(0x7777) + UsbfsRig.word(flags) + UsbfsRig.word(0)
        let middle = UsbfsRig.long(buffer) + UsbfsRig.word(length) + UsbfsRig.word(0x7777) + UsbfsRig.word(0)
        let tail = UsbfsRig.word(packetsOrStream) + UsbfsRig.word(0x7777) + UsbfsRig.word(signal)
        let table = packets.flatMap { UsbfsRig.word($0) + Array(repeating: 0, count: 8) }
        return head + middle + tail + UsbfsRig.long(0) + table
    }
}

/// What a caller finds in its URB.
struct ReapedURB: Equatable {
    var address: UInt64
    var status: Int32
    var actualLength: Int32
}

/// A device with its openers, the kernel before it and a scripted source behind it.
final class UsbfsRig: Sendable {
    // Numbers of linux/usbdevice_fs.h, as a 64-bit program has them.
    static let control: UInt32 = 0xc018_5500
    static let bulk: UInt32 = 0xc018_5502
    static let resetEndpoint: UInt32 = 0x8004_5503
    static let setInterface: UInt32 = 0x8008_5504
    static let setConfiguration: UInt32 = 0x8004_5505
    static let getDriver: UInt32 = 0x4104_5508
    static let submitURB: UInt32 = 0x8038_550a
    static let discardURB: UInt32 = 0x0000_550b
    static let reapURB: UInt32 = 0x4008_550c
    static let reapURBNoDelay: UInt32 = 0x4008_550d
    static let disconnectSignal: UInt32 = 0x8010_550e
    static let claimInterface: UInt32 = 0x8004_550f
    static let releaseInterface: UInt32 = 0x8004_5510
    static let connectInfo: UInt32 = 0x4008_5511
    static let ioctl: UInt32 = 0xc010_5512
    static let reset: UInt32 = 0x0000_5514
    static let clearHalt: UInt32 = 0x8004_5515
    static let claimPort: UInt32 = 0x8004_5518
    static let getCapabilities: UInt32 = 0x8004_551a
    static let disconnectClaim: UInt32 = 0x8108_551b
    static let allocateStreams: UInt32 = 0x8008_551c
    static let freeStreams: UInt32 = 0x8008_551d
    static let dropPrivileges: UInt32 = 0x4004_551e
    static let getSpeed: UInt32 = 0x0000_551f
    static let connectInfoEx: UInt32 = 0x8018_5520

    /// Where things are in the caller's memory.
    static let argument = FakeKernel.base + 0x1000
    static let pointer = FakeKernel.base + 0x2000
    static let buffer = FakeKernel.base + 0x10_0000
    static func urb(_ number: Int) -> UInt64 { FakeKernel.base + 0x4000 + UInt64(number) * 0x800 }

    static let shortNotOK: UInt32 = 1
    static let continuation: UInt32 = 4

    let kernel = FakeKernel()
    let clock = FakeClock()
    let backend: ScriptedBackend
    let device: VirtualDevice
    let node: UsbfsNode
    let pool = BufferPool()
    let changes = Inbox<Int>()

    init(
        _ backend: ScriptedBackend = ScriptedBackend(always: .hold), speed: DeviceSpeed = .high,
        bytes: [UInt8] = SampleDevice.zeroBytes, alternate: UInt8 = 0
    ) throws {
        self.backend = backend
        let descriptors = try Descriptors(parsing: bytes)
        device = VirtualDevice(
            backend: backend, descriptors: descriptors, speed: speed, configurationValue: 1,
            alternates: [InterfaceNumber(rawValue: 0): alternate], pool: pool)
        let changes = changes
        node = UsbfsNode(
            device, UsbfsNode.Identity(busNumber: 1, deviceNumber: 5, ports: [2, 3]), clock: clock
        ) { changes.append(1) }
    }

    static func word(_ value: UInt32) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) } }
    static func long(_ value: UInt64) -> [UInt8] { word(UInt32(truncatingIfNeeded: value)) + word(UInt32(value >> 32)) }

    func open(isWritable: Bool = true) throws -> UsbfsSession {
        let id = kernel.request { reply in self.node.open(reply, isWritable: isWritable) }
        guard case .result(let handle)? = kernel.outcome(id) else { throw TestProblem() }
        return try #require(node.session(UInt64(handle)))
    }

    /// An ioctl with a structure.
    @discardableResult
    func ioctl(_ session: UsbfsSession, _ number: UInt32, _ bytes: [UInt8] = []) -> FakeKernel.Outcome? {
        kernel.write(bytes, at: Self.argument)
        return kernel.outcome(kernel.ioctl(session, number, Self.argument))
    }

    @discardableResult
    func submit(
        _ session: UsbfsSession, _ urb: TestUsbfsURB, at number: Int = 0, caller: Int32 = 1
    ) -> FakeKernel.Outcome? {
        kernel.write(urb.bytes, at: Self.urb(number))
        return kernel.outcome(kernel.ioctl(session, Self.submitURB, Self.urb(number), caller: caller))
    }

    /// REAPURBNDELAY; nil where there is nothing.
    func reap(_ session: UsbfsSession) -> ReapedURB? {
        guard kernel.outcome(kernel.ioctl(session, Self.reapURBNoDelay, Self.pointer)) == .result(0) else { return nil }
        return reaped()
    }

    /// The URB that the pointer points to.
    func reaped() -> ReapedURB {
        let address = kernel.read(Self.pointer, 8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        return ReapedURB(
            address: address, status: kernel.i32(address + 4), actualLength: kernel.i32(address + 28))
    }

    func close(_ session: UsbfsSession) -> FakeKernel.Outcome? {
        kernel.outcome(kernel.request { reply in session.release(reply) })
    }

    func poll(_ session: UsbfsSession, _ poller: FakePoller? = nil) -> FakeKernel.Outcome? {
        kernel.outcome(kernel.request { reply in session.poll(reply, poller) })
    }

    /// Whatever a test has left ends, and nothing of it is left.
    func finish() async {
        for session in node.sessions { _ = close(session) }
        backend.completeAll(.cancelled)
        node.end()
        await device.close()
        #expect(node.sessions.isEmpty)
        #expect(node.memoryInUse == 0)
        #expect(device.inFlight == 0)
        #expect(pool.outstanding == 0)
        #expect(backend.verify() == [])
    }
}

struct TestProblem: Error {}
