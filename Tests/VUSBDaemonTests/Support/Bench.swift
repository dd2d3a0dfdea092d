// SPDX-License-Identifier: Apache-2.0

import Logging
import Synchronization
import Testing
import VUSBControl
import VUSBCore
import VUSBFileSystem
import VUSBTestSupport
import VUSBVMM

@testable import VUSBDaemon

/// Keeps the last state in memory.
final class MemoryStore: StateKeeper {
    private let last = Mutex(SavedState())
    /// Saves that take until `letSave`, and who waits in them.
    private let held = Mutex<[CheckedContinuation<Void, Never>]?>(nil)
    /// Tells of each save that is held back.
    let heldSaves = Inbox<Void>()
    var state: SavedState { last.withLock { $0 } }

    func save(_ state: SavedState, revision: UInt64) async {
        last.withLock { $0 = state }
        guard held.withLock({ $0 != nil }) else { return }
        await withCheckedContinuation { continuation in
            let isHeld = held.withLock { held in
                held?.append(continuation)
                return held != nil
            }
            if isHeld { heldSaves.append(()) } else { continuation.resume() }
        }
    }

    func holdSaves() { held.withLock { $0 = [] } }

    func letSave() {
        let waiters = held.withLock { held in
            defer { held = nil }
            return held ?? []
        }
        for waiter in waiters { waiter.resume() }
    }

    func findings() async -> [Finding] { [] }
}

/// A control plane with all that it needs, and what tests do with it.
struct Bench: Sendable {
    let plane: ControlPlane
    let source: TestSource
    let tree = RecordingTree()
    let store: MemoryStore
    let pool = BufferPool()
    let handler = RecordingHandler()
    let monitor: TestMonitor
    let exports: TestExports
    let redirect = TestRedirect()
    let nodes = TestNodes()
    let usbip = TestUSBIP()
    let importer = TestImporter()

    /// Bounds that a test doesn't notice where they're met, and that end soon where they aren't.
    static let times = GuestTimes(
        hello: .milliseconds(300),
        load: .seconds(30),
        unload: .seconds(5),
        question: .milliseconds(300),
        users: .milliseconds(300),
        impatience: .milliseconds(100),
        drivers: .milliseconds(100),
        removal: .milliseconds(50),
        boot: .seconds(30),
        monitor: .milliseconds(50),
        plug: .milliseconds(300),
        greeting: .milliseconds(300),
        unplug: .milliseconds(300),
        cutOff: .milliseconds(100),
        idle: .zero
    )

    init(
        store: MemoryStore = MemoryStore(), source: TestSource = TestSource(), machines: [TestMachine] = [],
        times: GuestTimes = Bench.times, health: HealthLimits = .off,
        modeRule: ModeMeter.Rule = ModeMeter.Rule()
    ) async throws {
        self.store = store
        self.source = source
        exports = TestExports()
        monitor = TestMonitor(machines)
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        let connector = LocalConnector(logger: logger)
        plane = ControlPlane(
            tree: tree,
            emulator: source,
            connectors: [connector, monitor],
            store: store,
            surroundings: ControlPlane.Surroundings(
                pool: pool,
                facts: ControlPlane.Facts(
                    version: "1", pid: 1, mount: "/vusb", socket: "/run/x", imageDirectory: "/nonexistent"
                ),
                logger: logger,
                tools: ModuleTools(store: ModuleStore(directories: []), times: times) { kernel, _ in
                    // Only test machines are ever loaded by a test's loader.
                    TestLoader(machine: (kernel as? TestKernel)?.machine ?? TestMachine("none"))
                },
                exports: exports,
                redirect: redirect,
                nodes: nodes,
                usbip: usbip,
                importer: importer,
                health: health,
                modeRule: modeRule
            )
        )
        connect(machines)
        await plane.listen(to: connector)
        await plane.listen(to: monitor)
        await plane.listenToChannels()
        await plane.listenToRedirect()
        await plane.listenToNodes()
        await plane.listenToUSBIP()
        await plane.watch()
        try await plane.start(source)
        try await plane.start(importer)
    }

    /// Modules in machines open their guest's channel when there is one.
    private func connect(_ machines: [TestMachine]) {
        let tree = tree
        for machine in machines {
            machine.onModule { _ in tree.setChannel(machine.name, machine.greets ? .open : .closed) }
        }
        tree.onChannel { guest in
            if machines.contains(where: { $0.name == guest && $0.greets }) { tree.setChannel(guest, .open) }
        }
    }

    /// A bench with a loaded guest `web1` and these devices.
    static func loaded(_ devices: [String], guests: [GuestSpec] = [GuestSpec(name: "web1")]) async throws -> Bench {
        let bench = try await Bench()
        for device in devices { _ = try await bench.plane.plugIn(device) }
        for guest in guests { _ = try await bench.plane.addGuest(guest) }
        for guest in guests { try await bench.load(guest.name) }
        return bench
    }

    func finish(_ operation: OperationInfo) async throws -> OperationInfo {
        let info = try await plane.operation(operation.id, waitSeconds: 60, afterSteps: nil)
        #expect(info.state != .running)
        return info
    }

    @discardableResult
    func load(_ guest: String, process: Int? = nil) async throws -> OperationInfo {
        let info = try await finish(await plane.load(guest, LoadRequest(process: process)))
        #expect(info.state == .succeeded, "\(info)")
        return info
    }

    func unload(_ guest: String, deadline: Double = 0, _ onDeadline: ReleaseRequest.OnDeadline = .refuse) async throws
        -> OperationInfo
    {
        let request = ReleaseRequest(deadlineSeconds: deadline, onDeadline: onDeadline)
        return try await finish(await plane.unload(guest, request))
    }

    @discardableResult
    func attach(_ device: String, _ guest: String = "web1") async throws -> AttachmentInfo {
        let info = try await finish(await plane.attach(device, AttachRequest(guest: guest)))
        return try #require(info.attachment, "\(info)")
    }

    func detach(_ device: String, deadline: Double = 0, _ onDeadline: ReleaseRequest.OnDeadline = .refuse) async throws
        -> OperationInfo
    {
        let request = ReleaseRequest(deadlineSeconds: deadline, onDeadline: onDeadline)
        return try await finish(await plane.detach(device, request))
    }

    /// Submits a read that stays in flight.
    func read(_ path: String, of guest: String = "web1", bytes: Int = 512) throws {
        let attachment = try #require(tree.guests[guest]?.attachments[path])
        attachment.device.submit(
            URB(
                endpoint: EndpointAddress(rawValue: 0x81),
                buffer: pool.take(bytes),
                requestedLength: bytes,
                handler: handler,
                context: 0
            )
        )
    }

    /// A read at 0x81 of a device that a guest holds, in whatever mode.
    func submitRead(_ device: String) async throws {
        let attachment = try #require(await plane.deviceRegistry[DeviceID(device)]?.attachment)
        attachment.device.submit(
            URB(
                endpoint: EndpointAddress(rawValue: 0x81), buffer: pool.take(8), requestedLength: 8, handler: handler,
                context: 0))
    }

    func state(_ device: String) async throws -> DeviceInfo.State { try await plane.device(device).state }
    func state(of guest: String) async throws -> GuestInfo.State { try await plane.guest(guest).state }

    /// Waits for an event; those before it are passed over.
    func event(_ type: String, after: UInt64 = 0, where fits: (EventInfo) -> Bool = { _ in true }) async -> EventInfo? {
        for await event in await plane.events(after: after) where event.type == type && fits(event) { return event }
        return nil
    }

    var lastSequence: UInt64 { get async { await plane.eventRing.known.last?.sequence ?? 0 } }

    /// Nothing is held any more: the end of each test.
    func close(sourceLocation: SourceLocation = #_sourceLocation) async {
        await plane.stop(deadline: .zero)
        #expect(source.openDevices.isEmpty, sourceLocation: sourceLocation)
        #expect(pool.outstanding == 0, sourceLocation: sourceLocation)
        #expect(tree.mistakes.isEmpty, "\(tree.mistakes)", sourceLocation: sourceLocation)
        #expect(tree.channels.isEmpty && tree.quiet.isEmpty, sourceLocation: sourceLocation)
        #expect(redirect.open.isEmpty, sourceLocation: sourceLocation)
        #expect(usbip.addresses.isEmpty && usbip.offered.isEmpty, sourceLocation: sourceLocation)
        #expect(importer.devices.openDevices.isEmpty, sourceLocation: sourceLocation)
        #expect(source.doubleOpens == 0, sourceLocation: sourceLocation)
        for (name, guest) in tree.guests {
            #expect(guest.attachments.isEmpty && !guest.isPublished, "\(name)", sourceLocation: sourceLocation)
        }
    }
}

func problem(_ body: () async throws -> Void) async -> Problem? {
    do {
        try await body()
        return nil
    } catch {
        return error as? Problem
    }
}

extension ControlPlane {
    /// A listener that nobody opens: certificates are files.
    func share(_ listener: USBIPListenerSpec) { sharedListeners.append(listener) }
}
