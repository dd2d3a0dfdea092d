// SPDX-License-Identifier: Apache-2.0

package import VUSBCore

/// What `--emulate KIND[=ARG][,OPTION[=VALUE]]...` asks for.
package struct EmulationSpecification: Sendable, Equatable {
    package enum Kind: Sendable, Equatable {
        case zero(Pattern)
        case serial
        case disk(image: String, readOnly: Bool)
        case keyboard
    }

    package var kind: Kind
    /// Nil for the kind's own name, with a number behind it where that's taken.
    package var name: String?
    package var speed: DeviceSpeed
    package var serial: String?
    /// Nil for one device; else that many, with `-1` and so on behind the name.
    package var count: Int?

    package static let maximumCount = 10_000

    package init(
        _ kind: Kind,
        name: String? = nil,
        speed: DeviceSpeed? = nil,
        serial: String? = nil,
        count: Int? = nil
    ) throws(USBError) {
        self.kind = kind
        self.name = name
        self.speed = speed ?? kind.blueprintKind.speeds[0]
        self.serial = serial
        self.count = count
        try check()
    }

    /// - Throws: `invalid`, naming the option and what is allowed.
    package init(parsing text: String) throws(USBError) {
        var parts = Self.split(text).map(Option.init)[...]
        let (kindName, argument) = parts.popFirst().map { ($0.name, $0.value) } ?? ("", nil)
        let options = try Options(parts, kind: kindName)
        let kind = try Self.kind(kindName, argument: argument, options)
        try self.init(
            kind,
            name: options.name,
            speed: options.speed,
            serial: options.serial,
            count: options.count
        )
    }

    private static func kind(_ name: String, argument: String?, _ options: Options) throws(USBError) -> Kind {
        if name == "disk" {
            guard let argument, !argument.isEmpty else {
                throw USBError(.invalid, "emulate disk: no image", remedy: "write disk=IMAGE, the name of a file")
            }
            return .disk(image: argument, readOnly: options.isReadOnly)
        }
        if let argument, ["zero", "serial", "keyboard"].contains(name) {
            throw USBError(.invalid, "emulate \(name): \"=\(argument)\" is too much", remedy: "only disk has a value")
        }
        switch name {
        case "zero": return .zero(options.pattern ?? .zeros)
        case "serial": return .serial
        case "keyboard": return .keyboard
        default:
            throw USBError(
                .invalid,
                "emulate: there is no kind \"\(name)\"",
                remedy: "it can be zero, serial, disk=IMAGE or keyboard"
            )
        }
    }

    /// At commas; two commas are one that belongs to the text, so that an image's name may have one.
    private static func split(_ text: String) -> [String] {
        var parts: [String] = [""]
        var rest = Substring(text)
        while let character = rest.popFirst() {
            if character != "," {
                parts[parts.count - 1].append(character)
            } else if rest.first == "," {
                rest.removeFirst()
                parts[parts.count - 1].append(",")
            } else {
                parts.append("")
            }
        }
        return parts
    }

    // MARK: - Checks

    private func check() throws(USBError) {
        let kindName = kind.blueprintKind.name
        let speeds = kind.blueprintKind.speeds
        guard speeds.contains(speed) else {
            let names = speeds.map(\.rawValue).joined(separator: ", ")
            throw USBError(.invalid, "emulate \(kindName): no speed \(speed.rawValue)", remedy: "it can be \(names)")
        }
        if let name, !Self.isName(name) {
            throw USBError(
                .invalid,
                "emulate \(kindName): the name \"\(name)\" can't be",
                remedy: "use a to z, 0 to 9 and -, not first, at most 63 in all"
            )
        }
        if let serial, !Self.isSerial(serial) {
            throw USBError(
                .invalid,
                "emulate \(kindName): the serial number \"\(serial)\" can't be",
                remedy: "use 1 to 60 printable ASCII characters"
            )
        }
        if let count, !(1...Self.maximumCount).contains(count) {
            throw USBError(.invalid, "emulate \(kindName): count=\(count)", remedy: "use 1 to \(Self.maximumCount)")
        }
        if case .disk(_, readOnly: false) = kind, (count ?? 1) > 1 {
            throw USBError(
                .invalid,
                "emulate disk: \(count ?? 1) disks can't write one image",
                remedy: "add readonly, or give each its own image"
            )
        }
    }

    private static func isName(_ name: String) -> Bool {
        guard (1...63).contains(name.utf8.count), name.utf8.first != UInt8(ascii: "-") else { return false }
        return name.utf8.allSatisfy { byte in
            (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte)
                || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || byte == UInt8(ascii: "-")
        }
    }

    private static func isSerial(_ serial: String) -> Bool {
        (1...60).contains(serial.utf8.count) && serial.utf8.allSatisfy { $0 >= 0x20 && $0 < 0x7f }
    }
}

extension EmulationSpecification.Kind {
    var blueprintKind: Blueprint.Kind {
        switch self {
        case .zero: ZeroModel.kind
        case .serial: SerialModel.kind
        case .disk: DiskModel.kind
        case .keyboard: KeyboardModel.kind
        }
    }
}

extension EmulationSpecification {
    /// `NAME` or `NAME=VALUE`.
    fileprivate struct Option {
        let name: String
        let value: String?

        init(_ text: String) {
            let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            name = String(parts[0])
            value = parts.count > 1 ? String(parts[1]) : nil
        }
    }

    /// What stands behind the kind.
    fileprivate struct Options {
        var name: String?
        var speed: DeviceSpeed?
        var serial: String?
        var count: Int?
        var pattern: Pattern?
        var isReadOnly = false

        init(_ parts: ArraySlice<Option>, kind: String) throws(USBError) {
            for part in parts { try take(part, kind) }
        }

        private mutating func take(_ option: Option, _ kind: String) throws(USBError) {
            switch (option.name, kind) {
            case ("name", _): name = try Self.value(option, kind, "a name")
            case ("serial", _): serial = try Self.value(option, kind, "a serial number")
            case ("speed", _): speed = try Self.choice(option, kind, DeviceSpeed.allCases.filter { $0 != .superPlus })
            case ("count", _):
                guard let number = Int(try Self.value(option, kind, "a number")) else {
                    throw Self.wrong(option, kind, "use a number, such as count=3")
                }
                count = number
            case ("pattern", "zero"): pattern = try Self.choice(option, kind, Pattern.allCases)
            case ("readonly", "disk"):
                guard option.value == nil else { throw Self.wrong(option, kind, "readonly has no value") }
                isReadOnly = true
            default: throw Self.unknown(option, kind)
            }
        }

        private static func value(_ option: Option, _ kind: String, _ what: String) throws(USBError) -> String {
            guard let value = option.value, !value.isEmpty else {
                throw wrong(option, kind, "write \(option.name)= and \(what)")
            }
            return value
        }

        private static func choice<Choice: RawRepresentable<String>>(
            _ option: Option,
            _ kind: String,
            _ choices: [Choice]
        ) throws(USBError) -> Choice {
            if let choice = choices.first(where: { $0.rawValue == option.value }) { return choice }
            let names = choices.map(\.rawValue).joined(separator: ", ")
            throw wrong(option, kind, "\(option.name) can be \(names)")
        }

        private static func wrong(_ option: Option, _ kind: String, _ remedy: String) -> USBError {
            let text = option.value.map { "\(option.name)=\($0)" } ?? option.name
            return USBError(.invalid, "emulate \(kind): \"\(text)\" isn't right", remedy: remedy)
        }

        private static func unknown(_ option: Option, _ kind: String) -> USBError {
            let own = kind == "zero" ? ", pattern" : kind == "disk" ? ", readonly" : ""
            return USBError(
                .invalid,
                "emulate \(kind): there is no option \"\(option.name)\"",
                remedy: "there are name, speed, serial, count\(own)"
            )
        }
    }
}
