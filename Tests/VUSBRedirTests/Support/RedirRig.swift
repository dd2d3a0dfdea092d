// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBRedir

/// A device at a socket in a temporary directory, as the daemon has it.
final class RedirRig: Sendable {
    let directory: String
    let front: RedirFront
    let port: RedirPort
    let device: VirtualDevice
    let backend: ScriptedBackend
    let events = Inbox<RedirEvent.Kind>()

    /// - Parameter alternate: of interface 0. The sample device has isochronous endpoints at 1, interrupt ones at 2.
    init(
        _ backend: ScriptedBackend = ScriptedBackend(), alternate: UInt8 = 0, descriptors: Descriptors? = nil,
        speed: DeviceSpeed = .high, configuration: UInt8 = 1
    ) throws {
        self.backend = backend
        device = VirtualDevice(
            backend: backend, descriptors: try descriptors ?? SampleDevice.zero(), speed: speed,
            configurationValue: configuration, alternates: [InterfaceNumber(rawValue: 0): alternate],
            pool: BufferPool())
        // Short: a socket's path has few bytes.
        directory = "/tmp/vusb-redir-\(UUID().uuidString.prefix(8))"
        front = try RedirFront(directory: directory, version: "vusb test")
        port = try front.open(path: "1-1", of: "web1", device: device, owner: geteuid())
        Task { [front, events] in for await event in front.events() { events.append(event.kind) } }
    }

    /// A peer that has said hello and heard of the device.
    func connect(_ capabilities: RedirCapabilities = .all) async throws -> RedirPeer {
        let peer = try RedirPeer(path: port.socketPath, capabilities)
        peer.startReading()
        peer.send(peer.wire.hello())
        // Hello, interfaces, endpoints, device.
        #expect(await peer.next(4).count == 4)
        return peer
    }

    /// A peer that has said hello and reads nothing.
    func connectDeaf() async throws -> RedirPeer {
        let peer = try RedirPeer(path: port.socketPath)
        peer.send(peer.wire.hello())
        await events.wait(for: 1)
        return peer
    }

    /// The backend's held URBs, once there are so many.
    func held(_ count: Int, afterCalls calls: Int) async -> [ManualCompletion] {
        await backend.calls.wait(for: calls)
        let held = backend.held
        #expect(held.count == count)
        return held
    }

    /// Ends all, in whatever state it is; nothing is left then.
    func finish(_ peers: RedirPeer...) async {
        port.end()
        for peer in peers where peer.heard.elements.last != .closed {
            peer.close()
            _ = await peer.untilClosed()
        }
        await device.close()
        // What its thread had begun is done by then.
        await front.stop()
        #expect(device.inFlight == 0)
        #expect(device.pool.outstanding == 0)
        #expect(backend.verify() == [])
        // A directory that stays is the system's to clear.
        try? FileManager.default.removeItem(atPath: directory)
    }
}

/// Waits for what another thread is about to do and tells nobody of; false where it doesn't.
func redirEventually(_ condition: () -> Bool) -> Bool {
    let deadline = ContinuousClock.now + .seconds(20)
    while !condition() {
        guard ContinuousClock.now < deadline else { return false }
        Threads.yield()
    }
    return true
}
