// SPDX-License-Identifier: Apache-2.0

import Synchronization

@testable import VUSBVMM

/// What QEMU knows of its USB controllers and devices, and how it answers, as 7.2 does.
///
/// Concurrency model: any task; the state is in one `Mutex`, a leaf. `serve` is one task's.
final class FakeMachine: Sendable {
    enum Reply {
        case value(JSONValue)
        case refusal(String, class: String = "GenericError")
        /// It's done, and nobody says so.
        case silence
        /// The connection ends.
        case end
        /// DEVICE_DELETED of this device, then the same as usual.
        case early(String)
    }

    private struct State {
        /// Of each object: name and type of its properties.
        var objects: [String: [(String, String)]] = ["/machine": []]
        /// By `path/name`.
        var values: [String: JSONValue] = [:]
        var chardevs: [String: String] = [:]
        /// `bus/port` of each device.
        var devices: [String: String] = [:]
        var ports: Set<String> = []
        var commands: [JSONValue] = []
        /// Replies to come, by command, before the usual ones.
        var replies: [String: [Reply]] = [:]
        var arrivals: [(name: String, continuation: CheckedContinuation<Void, Never>)] = []
        var takesChardevAlong = true
    }

    private let state = Mutex(State())

    private static let changing: Set = ["chardev-add", "device_add", "device_del", "chardev-remove"]

    /// Everything but what only looks, in order.
    var changes: [JSONValue] {
        state.withLock { state in
            state.commands.filter { Self.changing.contains($0["execute"]?.string ?? "") }
        }
    }

    /// Their names alone.
    var changeNames: [String] { changes.compactMap { $0["execute"]?.string } }

    func count(_ command: String) -> Int {
        state.withLock { state in state.commands.count { $0["execute"] == .string(command) } }
    }

    var chardevs: [String] { state.withLock { $0.chardevs.keys.sorted() } }
    var devices: [String] { state.withLock { $0.devices.keys.sorted() } }

    // MARK: - What there is

    func object(_ path: String, _ properties: (String, String)...) {
        state.withLock { $0.objects[path] = properties }
    }

    func value(_ path: String, _ value: JSONValue) { state.withLock { $0.values[path] = value } }

    /// A machine with `-device qemu-xhci,id=xhci`.
    func addXHCI(usb2: Int = 4, usb3: Int = 4, ports: [Int] = [1, 2, 3, 4]) {
        object("/machine", ("type", "string"), ("peripheral", "child<container>"))
        object("/machine/peripheral", ("type", "string"), ("xhci", "child<qemu-xhci>"))
        object("/machine/peripheral/xhci", ("p2", "uint32"), ("p3", "uint32"), ("xhci.0", "child<usb-bus>"))
        object("/machine/peripheral/xhci/xhci.0", ("hotplug-handler", "link<hotplug-handler>"))
        value("/machine/peripheral/xhci/p2", .integer(usb2))
        value("/machine/peripheral/xhci/p3", .integer(usb3))
        free("xhci.0", ports)
    }

    func free(_ bus: String, _ ports: [Int]) {
        state.withLock { $0.ports.formUnion(ports.map { "\(bus)/\($0)" }) }
    }

    func chardev(_ id: String, filename: String = "unix:") { state.withLock { $0.chardevs[id] = filename } }

    func device(_ id: String) { state.withLock { $0.devices[id] = "xhci.0/1" } }

    /// The next answers to a command.
    func reply(_ command: String, _ replies: Reply...) {
        state.withLock { $0.replies[command, default: []] += replies }
    }

    func keepsChardevs() { state.withLock { $0.takesChardevAlong = false } }

    /// Returns when the command has come.
    func arrival(of command: String) async {
        await withCheckedContinuation { continuation in
            let hasCome = state.withLock { state in
                let hasCome = state.commands.contains { $0["execute"] == .string(command) }
                if !hasCome { state.arrivals.append((command, continuation)) }
                return hasCome
            }
            if hasCome { continuation.resume() }
        }
    }

    // MARK: - The other side

    /// Until the client closes, or the machine does.
    func serve(_ peer: FakePeer) async {
        while let line = await peer.line() {
            guard let command = JSONValue(parsing: line), let name = command["execute"]?.string else { return }
            let reply = state.withLock { state -> Reply? in
                guard let reply = state.replies[name]?.first else { return nil }
                state.replies[name]?.removeFirst()
                return reply
            }
            let arguments = command["arguments"] ?? [:]
            let usual = { self.state.withLock { Self.answer(name, arguments, &$0) } }
            // What it does is done, and noted, before its answer can be seen.
            switch reply {
            case .end?:
                arrived(command, name)
                peer.close()
            case .silence?:
                _ = usual()
                arrived(command, name)
            case .early(let device)?:
                await deleted(device, peer)
                let answer = usual()
                arrived(command, name)
                await send(answer, command, peer)
            case .some(let reply):
                arrived(command, name)
                await send(reply, command, peer)
            case nil:
                let answer = usual()
                arrived(command, name)
                await send(answer, command, peer)
                if name == "device_del", case .value = answer { await deleted(arguments["id"]?.string ?? "", peer) }
            }
        }
    }

    func deleted(_ device: String, _ peer: FakePeer) async {
        let path = "/machine/peripheral/\(device)"
        await peer.event("DEVICE_DELETED", ["path": .string(path + "/child")])
        await peer.event("DEVICE_DELETED", ["device": .string(device), "path": .string(path)])
    }

    private func arrived(_ command: JSONValue, _ name: String) {
        let waiters = state.withLock { state in
            state.commands.append(command)
            defer { state.arrivals.removeAll { $0.name == name } }
            return state.arrivals.filter { $0.name == name }
        }
        for waiter in waiters { waiter.continuation.resume() }
    }

    private func send(_ reply: Reply, _ command: JSONValue, _ peer: FakePeer) async {
        switch reply {
        case .value(let value): await peer.send(["return": value, "id": command["id"] ?? .null])
        case .refusal(let text, let errorClass):
            await peer.send([
                "error": ["class": .string(errorClass), "desc": .string(text)], "id": command["id"] ?? .null,
            ])
        case .silence, .end, .early: break
        }
    }

    private static func answer(_ name: String, _ arguments: JSONValue, _ state: inout State) -> Reply {
        let id = arguments["id"]?.string ?? ""
        let path = arguments["path"]?.string ?? ""
        switch name {
        case "qom-list": return list(path, state)
        case "qom-get":
            let property = arguments["property"]?.string ?? ""
            guard let value = state.values[path + "/" + property] else {
                return .refusal("Property '\(property)' not found")
            }
            return .value(value)
        case "query-chardev":
            return .value(
                .array(state.chardevs.map { ["label": .string($0.key), "filename": .string($0.value)] }))
        case "chardev-add":
            if state.chardevs[id] != nil { return .refusal("Chardev with id '\(id)' already exists") }
            state.chardevs[id] = "unix:"
        case "chardev-remove":
            if state.devices[id] != nil { return .refusal("Chardev '\(id)' is busy") }
            if state.chardevs.removeValue(forKey: id) == nil { return .refusal("Chardev '\(id)' not found") }
        case "device_add": return add(id, arguments, &state)
        case "device_del":
            guard let port = state.devices.removeValue(forKey: id) else {
                return .refusal("Device '\(id)' not found", class: "DeviceNotFound")
            }
            state.ports.insert(port)
            if state.takesChardevAlong { state.chardevs[id] = nil }
        default: return .refusal("The command \(name) has not been found", class: "CommandNotFound")
        }
        return .value([:])
    }

    private static func list(_ path: String, _ state: State) -> Reply {
        guard let properties = state.objects[path] else {
            return .refusal("Device '\(path)' not found", class: "DeviceNotFound")
        }
        let devices = path == "/machine/peripheral" ? state.devices.keys.map { ($0, "child<usb-redir>") } : []
        return .value(.array((properties + devices).map { ["name": .string($0.0), "type": .string($0.1)] }))
    }

    private static func add(_ id: String, _ arguments: JSONValue, _ state: inout State) -> Reply {
        let (bus, port) = (arguments["bus"]?.string ?? "", arguments["port"]?.string ?? "")
        if state.devices[id] != nil { return .refusal("Duplicate device ID '\(id)'") }
        guard state.chardevs[id] != nil else {
            return .refusal("Property 'usb-redir.chardev' can't find value '\(id)'")
        }
        guard state.ports.remove("\(bus)/\(port)") != nil else {
            return .refusal("usb port \(port) (bus \(bus)) not found (in use?)")
        }
        state.devices[id] = "\(bus)/\(port)"
        return .value([:])
    }
}
