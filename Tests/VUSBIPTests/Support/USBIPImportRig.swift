// SPDX-License-Identifier: Apache-2.0

import Foundation
import Logging
import Synchronization
import Testing
import VUSBCore
import VUSBEmulation
import VUSBTestSupport

@testable import VUSBIP

/// A source with one import, and what it tells.
final class USBIPImporter: Sendable {
    let source: USBIPSource
    let events = Inbox<DeviceEvent>()
    private let cursor = Mutex(0)

    init(_ patience: USBIPImportPatience = USBIPImporter.quick, loops: USBIPLoopGuard = USBIPLoopGuard()) throws {
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        source = USBIPSource(patience: patience, loops: loops, logger: logger)
        let stream = try source.start()
        Task { [events] in for await event in stream { events.append(event) } }
    }

    /// Tries follow one another at once.
    static var quick: USBIPImportPatience {
        var patience = USBIPImportPatience()
        patience.firstPause = .milliseconds(20)
        patience.longestPause = .milliseconds(40)
        patience.renewalPause = .milliseconds(20)
        // A machine that is busy with other tests isn't a server that hangs.
        patience.operation = .seconds(60)
        patience.control = .seconds(60)
        patience.reset = .seconds(60)
        patience.unlink = .seconds(60)
        patience.ending = .seconds(60)
        patience.reading = .seconds(60)
        patience.renewal = .seconds(60)
        return patience
    }

    /// One try, and no other before the test is over.
    static var once: USBIPImportPatience {
        var patience = quick
        patience.firstPause = .seconds(3600)
        patience.longestPause = .seconds(3600)
        return patience
    }

    /// Why it waits, once it does.
    func reason() async -> String {
        var found = ""
        _ = await usbipAwait {
            guard case .waiting(let reason, _)? = source.imports().first?.state else { return false }
            found = reason
            return true
        }
        return found
    }

    func next() async -> DeviceEvent? {
        let index = cursor.withLock { cursor in
            cursor += 1
            return cursor - 1
        }
        let all = await events.wait(for: index + 1)
        return index < all.count ? all[index] : nil
    }

    func arrived() async throws -> DeviceRecord {
        guard case .arrived(let record)? = await next() else { throw Missing() }
        return record
    }

    func left() async throws {
        guard case .left? = await next() else { throw Missing() }
    }

    func open(_ record: DeviceRecord) async throws -> VirtualDevice {
        let opened = try await source.open(record, isForced: false)
        return VirtualDevice(
            backend: opened.backend, descriptors: record.descriptors, speed: record.speed,
            configurationValue: opened.configurationValue, pool: BufferPool(), closeLimit: .seconds(60))
    }

    struct Missing: Error {}
}

/// As `usbipEventually`, where what is waited for is a task's to do.
func usbipAwait(_ condition: () -> Bool) async -> Bool {
    let deadline = ContinuousClock.now + .seconds(20)
    while !condition() {
        guard ContinuousClock.now < deadline else { return false }
        await Task.yield()
    }
    return true
}

/// An emulated device, a front that lends it as the daemon does, and an importer of it.
final class USBIPImportRig: Sendable {
    let emulation = EmulationSource()
    let record: DeviceRecord
    let served: VirtualDevice
    let importer: USBIPImporter
    let path: String
    /// What the fronts have told.
    let told = Inbox<USBIPEvent>()
    private let front: Mutex<USBIPFront>
    private let port = Mutex<UInt16>(0)
    private let isTCP: Bool

    init(
        _ specification: String, isTCP: Bool = true, patience: USBIPImportPatience = USBIPImporter.quick
    ) async throws {
        record = try emulation.add(EmulationSpecification(parsing: specification))[0]
        let opened = try await emulation.open(record, isForced: false)
        served = VirtualDevice(
            backend: opened.backend, descriptors: record.descriptors, speed: record.speed,
            configurationValue: opened.configurationValue, pool: BufferPool(), closeLimit: .seconds(60))
        path = "/tmp/vusb-import-\(UUID().uuidString.prefix(8))"
        self.isTCP = isTCP
        importer = try USBIPImporter(patience)
        front = Mutex(USBIPFront(patience: .endless))
        try startFront()
    }

    var server: USBIPServer {
        isTCP ? .tcp(host: "127.0.0.1", port: port.withLock { $0 }) : .unix(path: path)
    }

    /// Begins to lend, at the place of before.
    func startFront() throws {
        let made = USBIPFront(patience: .endless)
        let known = port.withLock { $0 }
        let listener = try made.listen(
            USBIPListenerDefinition(isTCP ? .tcp(port: known) : .unix(path: path), .one("web1")))
        port.withLock { $0 = listener.port ?? 0 }
        Self.lend(served, by: made, told)
        front.withLock { $0 = made }
    }

    /// Resets the device behind each session, as the daemon does.
    static func lend(_ device: VirtualDevice, by front: USBIPFront, _ told: Inbox<USBIPEvent> = Inbox()) {
        guard let export = try? front.export(device, at: USBIPRig.place) else { return }
        Task {
            for await event in front.events() {
                told.append(event)
                guard case .ended = event else { continue }
                try? await device.reset()
                export.readmit()
            }
        }
    }

    func stopFront() async { await front.withLock { $0 }.stop() }

    func importDevice() async throws -> DeviceRecord {
        let remote = try #require(USBIPRemote(server: server, busID: "1-1"))
        let id = try importer.source.add(remote, name: nil)
        try await importer.source.firstTry(of: id)
        return try await importer.arrived()
    }

    func finish(_ device: VirtualDevice? = nil) async {
        await device?.close()
        if let device { #expect(device.inFlight == 0 && device.pool.outstanding == 0) }
        await importer.source.stop()
        await stopFront()
        await served.close()
        #expect(served.inFlight == 0 && served.pool.outstanding == 0)
    }
}
