// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import VUSBControl
internal import VUSBCore
internal import VUSBEmulation
internal import Yams

/// Turns the text of vusb.yaml into a `Configuration`, and collects all that is wrong with it.
struct ConfigurationReader {
    private static let keys = [
        "mount", "socket", "socket-group", "socket-mode", "state", "images", "host", "emulate", "readers", "log-level",
        "modules", "attach-helper", "guests", "claims", "focus", "health", "auto", "access",
        "realtime", "usbip", "imports",
    ]
    private static let guestKeys = [
        "connector", "mode", "qmp", "agent", "share", "policy", "owner", "group", "file-mode", "nodes", "priority",
        "max-bytes-per-second", "max-urbs", "max-bytes-in-flight", "max-devices",
        "heartbeat", "listen", "clients", "devices", "load",
    ]
    /// What a connector may be called here; the daemon has no others.
    static let connectors = ["local", "qemu"]

    private(set) var faults: [ConfigurationFault] = []

    mutating func read(_ text: String) -> Configuration {
        do {
            guard let node = try Yams.compose(yaml: text) else { return Configuration() }
            return top(YAMLMapping(node, path: ""))
        } catch {
            faults.append(Self.fault(error, in: text))
            return Configuration()
        }
    }

    private mutating func top(_ found: YAMLMapping) -> Configuration {
        var mapping = found
        mapping.checkKeys(Self.keys)
        var configuration = Configuration()
        configuration.mount = mapping.path("mount")
        configuration.socket = mapping.path("socket")
        configuration.socketGroup = mapping.string("socket-group")
        configuration.state = mapping.path("state")
        configuration.images = mapping.path("images")
        configuration.attachHelper = mapping.path("attach-helper")
        configuration.host = mapping.boolean("host")
        configuration.realtime = mapping.boolean("realtime") ?? false
        configuration.readers = mapping.integer("readers", in: 1...64)
        configuration.emulate = emulations(&mapping)
        configuration.socketMode = socketMode(&mapping)
        configuration.logLevel = logLevel(&mapping)
        configuration.modules = directories("modules", &mapping)
        let guests = mapping.node("guests")?.value
        let claims = mapping.node("claims")
        let focus = mapping.node("focus")
        let health = mapping.node("health")
        let auto = mapping.node("auto")
        let access = mapping.node("access")
        let usbip = mapping.node("usbip")
        let imports = mapping.node("imports")
        faults += mapping.faults
        if let usbip {
            var reader = USBIPReader()
            configuration.usbip = reader.read(usbip.value, line: usbip.line)
            faults += reader.faults
        }
        if let guests { configuration.guests = readGuests(guests, besides: configuration.usbip.map(\.address)) }
        if let claims {
            var reader = ClaimReader()
            configuration.claims = reader.read(claims.value, line: claims.line)
            faults += reader.faults
        }
        if let focus {
            var reader = FocusReader()
            configuration.focus = reader.read(focus.value, line: focus.line)
            faults += reader.faults
        }
        if let access {
            var reader = AccessReader()
            configuration.access = reader.read(access.value, line: access.line)
            faults += reader.faults
        }
        if let health {
            var reader = HealthReader(YAMLMapping(health.value, path: "health"))
            configuration.health = reader.read()
            faults += reader.faults
        }
        if let imports {
            var reader = ImportReader()
            configuration.imports = reader.read(imports.value, line: imports.line)
            faults += reader.faults
        }
        if let auto {
            var reader = AutoReader(YAMLMapping(auto.value, path: "auto"))
            configuration.auto = reader.read()
            faults += reader.faults
        }
        return configuration
    }

    private func socketMode(_ mapping: inout YAMLMapping) -> UInt16? {
        guard let text = mapping.string("socket-mode") else { return nil }
        guard let mode = try? GuestFields(guest: "").fileMode(text) else {
            // Why is said below, with the line.
            mapping.fault(
                "socket-mode", mapping.node("socket-mode")?.line, "must be octal as 0660, not \(quoted(text))")
            return nil
        }
        return mode
    }

    /// Parsed only to find what is wrong; whether images can be had is seen when they are opened.
    private func emulations(_ mapping: inout YAMLMapping) -> [String] {
        let specifications = mapping.strings("emulate") ?? []
        for specification in specifications {
            do {
                _ = try EmulationSpecification(parsing: specification.text)
            } catch {
                let message = "\(quoted(specification.text)): \(DaemonSettings.withoutPrefix(error.message))"
                mapping.fault("emulate[\(specification.index)]", specification.line, message, remedy: error.remedy)
            }
        }
        return specifications.map(\.text)
    }

    private func logLevel(_ mapping: inout YAMLMapping) -> String? {
        guard let text = mapping.string("log-level") else { return nil }
        let levels = Logger.Level.allCases.map(\.rawValue)
        guard levels.contains(text) else {
            let line = mapping.node("log-level")?.line
            mapping.fault(
                "log-level", line, "\(quoted(text)) is none", remedy: "one of \(levels.joined(separator: ", "))")
            return nil
        }
        return text
    }

    private func directories(_ name: String, _ mapping: inout YAMLMapping) -> [String] {
        let entries = mapping.strings(name) ?? []
        for entry in entries where !entry.text.hasPrefix("/") || entry.text.utf8.contains(0) {
            mapping.fault(
                "\(name)[\(entry.index)]", entry.line, "must be an absolute path, not \(quoted(entry.text))")
        }
        return entries.map(\.text)
    }

    // MARK: - Guests

    /// - Parameter listeners: those of all guests.
    private mutating func readGuests(_ node: Node, besides listeners: [USBIPAddress]) -> [ConfiguredGuest] {
        let mapping = YAMLMapping(node, path: "guests")
        faults += mapping.faults
        let guests = mapping.names.compactMap { name, line -> ConfiguredGuest? in
            if let problem = Self.problem({ () throws(Problem) in try GuestName.check(name) }) {
                faults.append(fault(problem, line, "guests." + quoted(name)))
                return nil
            }
            let value = mapping.node(name)?.value ?? Node([(Node, Node)]())
            return guest(name, YAMLMapping(value, path: "guests." + name))
        }
        faults += GuestConflicts.faults(in: guests.map(\.specification), besides: listeners) { name in
            mapping.names.first { $0.name == name }?.line
        }
        return guests
    }

    private mutating func guest(_ name: String, _ found: YAMLMapping) -> ConfiguredGuest {
        var mapping = found
        mapping.checkKeys(Self.guestKeys)
        let devices = mapping.strings("devices")
        let specification = GuestSpec(
            name: name,
            connector: mapping.string("connector"),
            mode: mapping.string("mode"),
            qmp: mapping.string("qmp"),
            agent: mapping.string("agent"),
            share: mapping.string("share"),
            policy: mapping.string("policy"),
            owner: mapping.string("owner"),
            group: mapping.string("group"),
            fileMode: mapping.string("file-mode"),
            nodes: mapping.boolean("nodes"),
            priority: mapping.integer("priority", in: Rules.priorities),
            maxBytesPerSecond: mapping.integer("max-bytes-per-second", in: Rules.limits),
            maxURBs: mapping.integer("max-urbs", in: Rules.limits),
            maxBytesInFlight: mapping.integer("max-bytes-in-flight", in: Rules.limits),
            maxDevices: mapping.integer("max-devices", in: Rules.limits),
            heartbeatSeconds: mapping.seconds("heartbeat", in: Rules.heartbeats),
            listen: mapping.strings("listen")?.map(\.text),
            clients: mapping.strings("clients")?.map(\.text),
            devices: devices?.map(\.text)
        )
        let load = mapping.boolean("load") ?? false
        faults += mapping.faults
        checkValues(specification, mapping, deviceLines: devices?.map(\.line) ?? [])
        return ConfiguredGuest(specification: specification, load: load)
    }

    /// Each value by itself, so that all that is wrong is told at once.
    private mutating func checkValues(_ guest: GuestSpec, _ mapping: YAMLMapping, deviceLines: [Int?]) {
        let fields = GuestFields(guest: guest.name)
        func check(_ key: String, _ line: Int? = nil, _ body: () throws(Problem) -> Void) {
            guard let problem = Self.problem(body) else { return }
            faults.append(fault(problem, line ?? mapping.node(key)?.line, mapping.key(key)))
        }
        check("connector") { () throws(Problem) in _ = try fields.connector(guest.connector, among: Self.connectors) }
        check("mode") { () throws(Problem) in _ = try fields.mode(guest.mode) }
        check("qmp") { () throws(Problem) in _ = try fields.qmp(guest.qmp) }
        check("agent") { () throws(Problem) in _ = try fields.agent(guest.agent) }
        check("share") { () throws(Problem) in _ = try fields.share(guest.share) }
        check("policy") { () throws(Problem) in _ = try fields.policy(guest.policy) }
        check("listen") { () throws(Problem) in _ = try fields.listen(guest.listen ?? []) }
        check("clients") { () throws(Problem) in _ = try fields.clients(guest.clients ?? []) }
        if let wrong = fields.combination(guest) {
            let line = mapping.node(wrong.field)?.line ?? mapping.node("connector")?.line
            faults.append(fault(wrong.problem, line, mapping.key(wrong.field)))
        }
        check("owner") { () throws(Problem) in _ = try fields.owner(guest.owner) }
        check("group") { () throws(Problem) in _ = try fields.group(guest.group) }
        check("file-mode") { () throws(Problem) in _ = try fields.fileMode(guest.fileMode) }
        for (device, line) in zip(guest.devices ?? [], deviceLines) {
            check("devices", line) { () throws(Problem) in _ = try fields.devices([device]) }
        }
        check("devices") { () throws(Problem) in
            if guest.devices?.count ?? 0 > Rules.mostDevices { _ = try fields.devices(guest.devices ?? []) }
        }
    }

    // MARK: - Faults

    private static func problem(_ body: () throws(Problem) -> Void) -> Problem? {
        do {
            try body()
            return nil
        } catch {
            return error
        }
    }

    private func fault(_ problem: Problem, _ line: Int?, _ key: String) -> ConfigurationFault {
        ConfigurationFault(line: line, key: key, message: problem.detail, remedy: problem.remedy)
    }

    private static func fault(_ error: any Error, in text: String) -> ConfigurationFault {
        guard let error = error as? YamlError else { return ConfigurationFault(message: "\(error)") }
        switch error {
        case .scanner(let context, let problem, let mark, _), .parser(let context, let problem, let mark, _),
            .composer(let context, let problem, let mark, _):
            let text = (context.map { $0.text + ": " } ?? "") + problem
            return ConfigurationFault(line: mark.line, message: "not YAML: \(text)", remedy: "correct it there")
        case .duplicatedKeysInMapping(let duplicates, let context):
            return ConfigurationFault(
                line: DuplicateKey.line(of: Set(duplicates), after: context.mark.line, in: text),
                key: duplicates.sorted().joined(separator: ", "),
                message: "given more than once in one mapping",
                remedy: "keep one"
            )
        case .reader(let problem, let offset, _, _):
            return ConfigurationFault(message: "not YAML: \(problem)" + (offset.map { " at byte \($0)" } ?? ""))
        default: return ConfigurationFault(message: "not YAML: \(error)")
        }
    }
}
