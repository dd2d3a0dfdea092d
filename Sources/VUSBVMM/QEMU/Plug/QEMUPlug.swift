// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import VUSBCore

/// Plugs usb-redir devices into a VM and takes them out again, over one connection to its QEMU.
///
/// A device and its chardev have the same id. The order is QEMU's: a chardev must be there before its device and can't go
/// before it. USB devices are taken out without the guest's consent, so a guest that is paused or hangs is no obstacle.
struct QEMUPlug {
    struct Limits: Sendable {
        /// How long plugging may take, and listing the controllers.
        var plug: Duration = .seconds(20)
        /// How long it may take to undo what has failed, and to take away one leftover.
        var undo: Duration = .seconds(5)
        /// A chardev stays busy for a moment after its device has gone, in some versions.
        var pause: Duration = .milliseconds(20)
        /// How many objects of QEMU's are looked at for controllers; a usual VM has less than a hundred.
        var objects = 2000
    }

    static let prefix = "vusb-"

    static func id(of port: ControllerPort) -> String { prefix + port.name }

    let guest: String
    let monitor: QEMUMonitor
    let client: QMPClient
    let limits: Limits
    let logger: Logger

    /// - Throws: `gone`, `timedOut`, `cancelled`.
    func controllers() async throws(USBError) -> [GuestController] {
        do throws(USBError) {
            var walk = QOMWalk(client, maximumObjects: limits.objects, until: Deadline(in: limits.plug))
            return try await walk.controllers().map(\.asGuestController)
        } catch {
            guard error.code == .timedOut else { throw error }
            throw USBError(
                .timedOut, "QEMU of guest \(guest) didn't list its USB controllers within \(limits.plug)",
                remedy: "look whether the QEMU process is stopped or hangs")
        }
    }
}

// MARK: - In

extension QEMUPlug {
    /// What may be there of a device that isn't plugged in.
    private enum Remains {
        case nothing
        case chardev
        case device
    }

    /// See `VMMConnector.hotplug`.
    func plug(_ port: ControllerPort, _ wish: PlugWish, _ socketPath: String) async throws(USBError) -> PluggedPort {
        let id = Self.id(of: port)
        let error = PlugError(guest: guest, device: id)
        let deadline = Deadline(in: limits.plug)
        var remains = Remains.nothing
        do throws(USBError) {
            var walk = QOMWalk(client, maximumObjects: limits.objects, until: deadline)
            let all = try await walk.controllers()
            let candidates = QEMUController.candidates(all, for: wish)
            guard !candidates.isEmpty else { throw error.noController(all, for: wish) }
            try await addChardev(id, socketPath, deadline, &remains)
            if let place = try await addDevice(id, wish, candidates, deadline, &remains) { return place }
            throw error.allTaken(candidates, for: wish)
        } catch let failure {
            await undo(id, remains)
            throw error.plugging(failure, limits.plug)
        }
    }

    /// `remains` says before the command what may be there if its answer doesn't come.
    private func addChardev(
        _ id: String, _ socketPath: String, _ deadline: Deadline, _ remains: inout Remains
    ) async throws(USBError) {
        let address: JSONValue = ["type": "unix", "data": ["path": .string(socketPath)]]
        let backend: JSONValue = ["type": "socket", "data": ["addr": address, "server": false]]
        let left = try deadline.left()
        remains = .chardev
        let answer = try await client.attempt("chardev-add", ["id": .string(id), "backend": backend], within: left)
        guard case .failure(let refusal) = answer else { return }
        remains = .nothing
        throw PlugError(guest: guest, device: id).refusedChardev(refusal, socketPath)
    }

    /// A port is always named: QEMU puts a hub of full speed into the last one where it may choose.
    /// - Returns: nil where all ports are taken.
    private func addDevice(
        _ id: String, _ wish: PlugWish, _ candidates: [QEMUController], _ deadline: Deadline, _ remains: inout Remains
    ) async throws(USBError) -> PluggedPort? {
        for candidate in candidates {
            // Each refusal costs QEMU some 50 ms.
            for port in candidate.possiblePorts(at: wish.speed) {
                let arguments: [String: JSONValue] = [
                    "driver": "usb-redir", "id": .string(id), "chardev": .string(id), "bus": .string(candidate.bus),
                    "port": .string(String(port)), "streams": .bool(wish.wantsStreams),
                ]
                let left = try deadline.left()
                remains = .device
                let answer = try await client.attempt("device_add", arguments, within: left)
                guard case .failure(let refusal) = answer else {
                    return PluggedPort(bus: candidate.bus, port: port)
                }
                remains = .chardev
                guard Self.isTaken(refusal) else { throw PlugError(guest: guest, device: id).refusedDevice(refusal) }
            }
        }
        return nil
    }

    /// `usb port 1 (bus xhci.0) not found (in use?)`, also where there is no such port.
    private static func isTaken(_ refusal: QMPRefusal) -> Bool {
        refusal.text.hasPrefix("usb port") && refusal.text.contains("not found")
    }

    /// In a task of its own: that of the caller may be cancelled.
    private func undo(_ id: String, _ remains: Remains) async {
        guard remains != .nothing, client.end == nil else { return }
        let task = Task {
            do throws(USBError) {
                let deadline = Deadline(in: limits.undo)
                try await remove(id, withDevice: remains == .device, deadline)
            } catch {
                // `unplugLeftovers` finds it.
                logger.warning(
                    "what was half plugged in stays in the guest",
                    metadata: ["guest": "\(guest)", "device": "\(id)", "error": "\(error)"])
            }
        }
        await task.value
    }
}

// MARK: - Out

extension QEMUPlug {
    /// See `VMMConnector.checkAnswers`.
    func checkAnswers(within limit: Duration) async throws(USBError) {
        do throws(USBError) {
            _ = try await client.execute("query-status", within: limit)
        } catch {
            guard error.code == .timedOut else { throw error }
            throw USBError(
                .timedOut, "QEMU of guest \(guest) doesn't answer within \(limit)",
                remedy: "look whether the QEMU process is stopped or hangs")
        }
    }

    /// See `VMMConnector.hotunplug`.
    func unplug(_ id: String, within limit: Duration) async throws(USBError) {
        do throws(USBError) {
            try await remove(id, withDevice: true, Deadline(in: limit))
        } catch let failure {
            throw PlugError(guest: guest, device: id).unplugging(failure, limit)
        }
    }

    private func remove(_ id: String, withDevice: Bool, _ deadline: Deadline) async throws(USBError) {
        if withDevice { try await removeDevice(id, deadline) }
        while try await !removeChardev(id, deadline) { try await pause(deadline) }
    }

    private func removeDevice(_ id: String, _ deadline: Deadline) async throws(USBError) {
        // Before the command: the event may come before its answer.
        let deletion = try monitor.deletion(of: id, on: client)
        defer { monitor.forget(deletion) }
        switch try await client.attempt("device_del", ["id": .string(id)], within: try deadline.left()) {
        case .success: break
        case .failure(let refusal) where refusal.errorClass == "DeviceNotFound": return
        case .failure(let refusal):
            guard refusal.text.contains("in the process of unplug") else {
                throw PlugError(guest: guest, device: id).refusedRemoval(refusal)
            }
        }
        try await deletion.wait(within: try deadline.left())
    }

    /// usb-redir takes its chardev along, in most versions.
    /// - Returns: false where a device has it yet.
    private func removeChardev(_ id: String, _ deadline: Deadline) async throws(USBError) -> Bool {
        switch try await client.attempt("chardev-remove", ["id": .string(id)], within: try deadline.left()) {
        case .success: return true
        case .failure(let refusal) where refusal.text.hasSuffix("not found"): return true
        case .failure(let refusal) where refusal.text.hasSuffix("is busy"): return false
        case .failure(let refusal): throw PlugError(guest: guest, device: id).refusedRemoval(refusal)
        }
    }

    private func pause(_ deadline: Deadline) async throws(USBError) {
        do {
            try await Task.sleep(for: min(limits.pause, try deadline.left()))
        } catch let error as USBError {
            throw error
        } catch {
            throw USBError(.cancelled, "cancelled")
        }
    }
}

// MARK: - Leftovers

extension QEMUPlug {
    /// See `VMMConnector.unplugLeftovers`. Tries them all.
    /// - Throws: the first of what went wrong.
    func unplugLeftovers(named prefix: String) async throws(USBError) -> Int {
        let (devices, chardevs) = try await leftovers()
        var count = 0
        var failure: USBError?
        for id in devices.union(chardevs).sorted() where id.hasPrefix(Self.prefix + prefix) {
            do throws(USBError) {
                if devices.contains(id) {
                    try await unplug(id, within: limits.undo)
                } else if try await !removeChardev(id, Deadline(in: limits.undo)) {
                    // Somebody else's device has it.
                    continue
                }
                count += 1
            } catch {
                failure = failure ?? error
            }
        }
        if let failure { throw failure }
        return count
    }

    private func leftovers() async throws(USBError) -> (devices: Set<String>, chardevs: Set<String>) {
        let objects = QOMProperty.list(try await client.execute("qom-list", ["path": "/machine/peripheral"]))
        let chardevs = try await client.execute("query-chardev")
        return (Self.devices(in: objects), Self.chardevs(in: chardevs))
    }

    /// Somebody else's device may have such a name, too.
    static func devices(in objects: [QOMProperty]) -> Set<String> {
        Set(objects.filter { $0.child == "usb-redir" && $0.name.hasPrefix(prefix) }.map(\.name))
    }

    /// What listens isn't ours: a monitor's socket may be called `vusb-qmp`.
    static func chardevs(in answer: JSONValue) -> Set<String> {
        let clients = (answer.array ?? []).filter { $0["filename"]?.string?.contains("server=on") != true }
        return Set(clients.compactMap { $0["label"]?.string }.filter { $0.hasPrefix(prefix) })
    }
}
