// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// Looks for USB controllers in the tree of QEMU's objects, whose shape is the machine type's: a controller of the
/// command line is below `peripheral`, one of the board below `unattached`, one of a chip below the chip.
struct QOMWalk {
    private static let maximumDepth = 6
    /// Of one bus; hubs at hubs could have more.
    private static let maximumDevices = 200
    /// What has no controllers below it, and is plentiful.
    private static let leaves = ["memory-region", "irq", "clock"]

    /// An object with a bus, or without one where it may be another one's companion.
    private struct Found {
        let path: String
        let kind: GuestController.Kind
        let buses: [String]
    }

    /// A device of the guest's.
    private struct AttachedDevice {
        let isHub: Bool
        /// As it was asked for: `1`, `1.2` at a hub, or empty.
        let port: String

        var number: Int? { Int(port) }
    }

    private let client: QMPClient
    private let deadline: Deadline
    /// Of objects that are listed: nothing that QEMU says makes this endless.
    private let maximumObjects: Int
    private var visited = 0
    private var found: [Found] = []

    init(_ client: QMPClient, maximumObjects: Int, until deadline: Deadline) {
        self.maximumObjects = maximumObjects
        self.client = client
        self.deadline = deadline
    }

    /// By kind and name.
    /// - Throws: `gone`, `timedOut`, `cancelled`.
    mutating func controllers() async throws(USBError) -> [QEMUController] {
        try await visit("/machine", type: "", depth: 0)
        var result: [QEMUController] = []
        for entry in found {
            for bus in entry.buses { result.append(try await controller(entry, bus)) }
        }
        for entry in found where entry.buses.isEmpty { try await addCompanion(entry, to: &result) }
        let kinds = GuestController.Kind.allCases
        return kinds.flatMap { kind in result.filter { $0.kind == kind }.sorted { $0.bus < $1.bus } }
    }

    private mutating func visit(_ path: String, type: String, depth: Int) async throws(USBError) {
        guard depth <= Self.maximumDepth, visited < maximumObjects else { return }
        visited += 1
        let properties = try await list(path)
        if let kind = QEMUController.kind(ofType: type) {
            let buses = properties.filter { $0.child == "usb-bus" }.map(\.name)
            found.append(Found(path: path, kind: kind, buses: buses))
        }
        for property in properties {
            guard let child = property.child, !Self.isLeaf(child) else { continue }
            try await visit(path + "/" + property.name, type: child, depth: depth + 1)
        }
    }

    private static func isLeaf(_ type: String) -> Bool {
        leaves.contains(type) || type.hasSuffix("-bus") || type.hasSuffix("-cpu")
    }

    // MARK: - One controller

    private func controller(_ entry: Found, _ bus: String) async throws(USBError) -> QEMUController {
        var controller = QEMUController(bus: bus, kind: entry.kind, ports: QEMUController.Ports())
        switch entry.kind {
        case .xhci:
            let (usb2, usb3) = (try await number(entry, "p2"), try await number(entry, "p3"))
            controller.ports = QEMUController.xhciPorts(usb2, usb3)
            controller.isCounted = usb2 != nil && usb3 != nil
        case .ehci: controller.ports.highSpeed = QEMUController.range(nil, default: QEMUController.ehciPorts)
        case .ohci, .uhci: controller.ports.slow = try await slowPorts(entry, after: 0)
        }
        try await note(devices(at: entry.path + "/" + bus), in: &controller)
        return controller
    }

    /// A device at a hub hangs from the bus in the tree, too, and one whose port QEMU chose doesn't tell it.
    private func note(_ devices: [AttachedDevice], in controller: inout QEMUController) {
        let numbers = devices.compactMap(\.number)
        controller.taken = Set(numbers)
        let unknown = devices.count { $0.port.isEmpty }
        guard controller.isCounted, unknown == 0 || !devices.contains(where: \.isHub) else { return }
        controller.freePorts = max(controller.ports.count - numbers.count - unknown, 0)
    }

    private func devices(at bus: String) async throws(USBError) -> [AttachedDevice] {
        var result: [AttachedDevice] = []
        for property in try await list(bus).prefix(Self.maximumDevices) {
            guard let type = property.link, property.name.hasPrefix("child[") else { continue }
            let device = try await get(bus, property.name)?.string ?? ""
            let port = try await get(device, "port")?.string ?? ""
            result.append(AttachedDevice(isHub: type == "usb-hub", port: port))
        }
        return result
    }

    private func slowPorts(_ entry: Found, after first: Int) async throws(USBError) -> [Int] {
        guard entry.kind == .ohci else {
            return QEMUController.range(nil, default: QEMUController.uhciPorts, after: first)
        }
        let count = try await number(entry, "num-ports")
        return QEMUController.range(count, default: QEMUController.ohciPorts, after: first)
    }

    /// Takes the slow devices at some of an ehci's ports.
    private func addCompanion(_ entry: Found, to controllers: inout [QEMUController]) async throws(USBError) {
        guard entry.kind == .uhci || entry.kind == .ohci,
            let bus = try await get(entry.path, "masterbus")?.string,
            let index = controllers.firstIndex(where: { $0.bus == bus && $0.kind == .ehci })
        else { return }
        let ports = try await slowPorts(entry, after: number(entry, "firstport") ?? 0)
        controllers[index].ports.slow = Set(controllers[index].ports.slow + ports)
            .intersection(controllers[index].ports.highSpeed).sorted()
    }

    // MARK: - Commands

    /// Empty where there is no such object, any more.
    private func list(_ path: String) async throws(USBError) -> [QOMProperty] {
        let answer = try await client.attempt("qom-list", ["path": .string(path)], within: try deadline.left())
        guard case .success(let value) = answer else { return [] }
        return QOMProperty.list(value)
    }

    /// Nil where there is no such property.
    private func get(_ path: String, _ name: String) async throws(USBError) -> JSONValue? {
        let arguments: [String: JSONValue] = ["path": .string(path), "property": .string(name)]
        let answer = try await client.attempt("qom-get", arguments, within: try deadline.left())
        guard case .success(let value) = answer else { return nil }
        return value
    }

    private func number(_ entry: Found, _ name: String) async throws(USBError) -> Int? {
        try await get(entry.path, name)?.integer
    }
}
