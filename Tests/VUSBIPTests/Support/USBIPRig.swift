// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBIP

/// A device that guest web1 holds at 1-1, and a listener that is web1's, as the daemon has them.
final class USBIPRig: Sendable {
    static let place = USBIPPlace(guest: "web1", path: "1-1", busNumber: 1, deviceNumber: 2)

    let front: USBIPFront
    let listener: USBIPListener
    let export: USBIPExport
    let device: VirtualDevice
    let backend: ScriptedBackend
    let events = Inbox<USBIPEvent>()
    let target: USBIPPeer.Target

    /// - Parameter isTCP: else a Unix socket.
    init(
        _ backend: ScriptedBackend = ScriptedBackend(), alternate: UInt8 = 0, isTCP: Bool = false,
        patience: USBIPPatience = .endless, guests: USBIPListenerDefinition.Guests = .one("web1")
    ) throws {
        self.backend = backend
        device = VirtualDevice(
            backend: backend, descriptors: DescriptorBytes.fullZero, speed: .high, configurationValue: 1,
            alternates: [InterfaceNumber(rawValue: 0): alternate], pool: BufferPool())
        front = USBIPFront(patience: patience)
        // Short: a socket's path has few bytes.
        let path = "/tmp/vusb-usbip-\(UUID().uuidString.prefix(8))"
        listener = try front.listen(
            USBIPListenerDefinition(isTCP ? .tcp(port: 0) : .unix(path: path), guests))
        target = isTCP ? .tcp(listener.port ?? 0) : .unix(path)
        export = try front.export(device, at: Self.place)
        Task { [front, events] in for await event in front.events() { events.append(event) } }
    }

    /// A peer that has imported the device.
    func connect() async throws -> USBIPPeer {
        let peer = try USBIPPeer(target)
        peer.startReading()
        peer.send(USBIPWire.importDevice())
        guard case .imported(status: 0, _)? = await peer.next() else {
            Issue.record("no import")
            return peer
        }
        return peer
    }

    /// One that reads nothing from then on.
    func connectDeaf() async throws -> USBIPPeer {
        let peer = try USBIPPeer(target)
        peer.send(USBIPWire.importDevice())
        await waitForImport()
        return peer
    }

    @discardableResult
    func waitForImport() async -> USBIPEvent? { await events.wait(for: 1).first }

    /// How the session has ended.
    func waitForEnd() async -> USBIPEnd? {
        guard case .ended(Self.place, peer: _, let end, unfinished: 0)? = await events.wait(for: 2).last else {
            return nil
        }
        return end
    }

    /// The backend's held URBs, once there are so many.
    func held(_ count: Int, afterCalls calls: Int) async -> [ManualCompletion] {
        await backend.calls.wait(for: calls)
        let held = backend.held
        #expect(held.count == count)
        return held
    }

    /// Ends all, in whatever state it is; nothing is left then.
    func finish(_ peers: USBIPPeer...) async {
        await export.end()
        for peer in peers where peer.heard.elements.last != .closed {
            peer.close()
        }
        await front.stop()
        await device.close()
        #expect(device.inFlight == 0)
        #expect(device.pool.outstanding == 0)
        #expect(backend.verify() == [])
    }
}

/// Waits for what another thread is about to do and tells nobody of; false where it doesn't.
func usbipEventually(_ condition: () -> Bool) -> Bool {
    let deadline = ContinuousClock.now + .seconds(20)
    while !condition() {
        guard ContinuousClock.now < deadline else { return false }
        Threads.yield()
    }
    return true
}

extension USBIPPatience {
    /// For tests in which no time may run out, on machines as slow as may be.
    static let endless = {
        var patience = USBIPPatience()
        patience.request = .seconds(600)
        patience.reading = .seconds(600)
        patience.ending = .seconds(600)
        return patience
    }()
}
