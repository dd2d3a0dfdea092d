// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl
internal import VUSBCore

/// One thing that a claim asks of a device, written `TERM=VALUE`. Arbiter.md lists them.
enum DeviceTerm: Hashable, Sendable {
    case serial(String)
    /// Any product of that vendor where it's nil.
    case product(vendor: UInt16, product: UInt16?)
    /// In that place.
    case port(String)
    /// Below that hub.
    case below(String)
    /// The device's own, or that of any of its interfaces.
    case deviceClass(UInt8)
    /// Class, subclass and protocol of one interface; at least the first.
    case interface([UInt8])
    case source(String)

    /// - Throws: `malformed`, naming the term and what it may be.
    init(_ text: String) throws(Problem) {
        guard let (term, value) = Rules.claimTerm(text) else {
            throw Problem(.malformed, "\(quoted(text)) isn't a term", remedy: Rules.claimTermRemedy)
        }
        guard let parsed = Self.parse(term, value) else {
            throw Problem(.malformed, "\(quoted(text)): that is no \(term)", remedy: "give \(Self.form(of: term))")
        }
        self = parsed
    }

    private static func parse(_ term: String, _ value: String) -> DeviceTerm? {
        switch term {
        case "serial": .serial(value)
        case "product": parseProduct(value)
        case "port": parsePort(value)
        case "class": hexadecimal(value[...], digits: 2).map { .deviceClass(UInt8($0)) }
        case "interface": parseInterface(value)
        case "source": sources.contains(value) ? .source(value) : nil
        default: nil
        }
    }

    private static let sources = ["libusb", "emulation", "usbip"]

    private static func parseProduct(_ value: String) -> DeviceTerm? {
        let fields = value.split(separator: ":", omittingEmptySubsequences: false)
        let numbers = fields.compactMap { hexadecimal($0, digits: 4) }
        guard numbers.count == fields.count, let vendor = numbers.first, numbers.count <= 2 else { return nil }
        return .product(vendor: vendor, product: numbers.count == 2 ? numbers[1] : nil)
    }

    private static func parsePort(_ value: String) -> DeviceTerm? {
        let isBelow = value.hasSuffix(".*")
        let place = isBelow ? String(value.dropLast(2)) : value
        guard case .id? = DeviceSelector(place) else { return nil }
        return isBelow ? .below(place) : .port(place)
    }

    private static func parseInterface(_ value: String) -> DeviceTerm? {
        let fields = value.split(separator: ":", omittingEmptySubsequences: false)
        let numbers = fields.compactMap { hexadecimal($0, digits: 2) }
        guard numbers.count == fields.count, (1...3).contains(numbers.count) else { return nil }
        return .interface(numbers.map { UInt8($0) })
    }

    private static func hexadecimal(_ text: Substring, digits: Int) -> UInt16? {
        guard text.utf8.count == digits, text.allSatisfy({ $0.isASCII && $0.isHexDigit }) else { return nil }
        return UInt16(text, radix: 16)
    }

    private static func form(of term: String) -> String {
        switch term {
        case "product": "VID:PID or VID, four hexadecimal digits each, such as 0951:1666"
        case "port": "a device id such as 1-2.3, or 1-2.* for all below a hub"
        case "class": "two hexadecimal digits, such as 08"
        case "interface": "class, class:subclass or class:subclass:protocol, such as 03:01:01"
        case "source": sources.joined(separator: " or ")
        default: "a text"
        }
    }

    // MARK: - What it says

    func fits(_ record: DeviceRecord) -> Bool {
        let device = record.descriptors.device
        return switch self {
        case .serial(let serial): record.serial == serial
        case .product(let vendor, let product):
            device.idVendor == vendor && (product == nil || device.idProduct == product)
        case .port(let place): record.id.rawValue == place
        case .below(let hub): Self.isBelow(record.id.rawValue, hub)
        case .deviceClass(let number):
            device.bDeviceClass == number || Self.interfaces(of: record).contains { $0[0] == number }
        case .interface(let numbers): Self.interfaces(of: record).contains { $0.starts(with: numbers) }
        case .source(let name): record.source == name
        }
    }

    /// Whether it fits whatever the other one fits.
    func covers(_ other: DeviceTerm) -> Bool {
        if self == other { return true }
        return switch (self, other) {
        case (.product(let vendor, nil), .product(let its, _)): vendor == its
        case (.below(let hub), .port(let place)), (.below(let hub), .below(let place)): Self.isBelow(place, hub)
        case (.deviceClass(let number), .interface(let numbers)): numbers.first == number
        case (.interface(let numbers), .interface(let its)): its.starts(with: numbers)
        default: false
        }
    }

    private static func isBelow(_ place: String, _ hub: String) -> Bool {
        // `1-2` is a root hub's port; `1-2.3` is below the hub at it.
        place.hasPrefix(hub + ".")
    }

    private static func interfaces(of record: DeviceRecord) -> [[UInt8]] {
        record.descriptors.configurations.flatMap(\.interfaces).map {
            [$0.bInterfaceClass, $0.bInterfaceSubClass, $0.bInterfaceProtocol]
        }
    }
}

extension DeviceTerm: CustomStringConvertible {
    var description: String {
        switch self {
        case .serial(let serial): "serial=" + serial
        case .product(let vendor, let product):
            "product=" + hexadecimal4(vendor) + (product.map { ":" + hexadecimal4($0) } ?? "")
        case .port(let place): "port=" + place
        case .below(let hub): "port=" + hub + ".*"
        case .deviceClass(let number): "class=" + hexadecimal2(number)
        case .interface(let numbers): "interface=" + numbers.map(hexadecimal2).joined(separator: ":")
        case .source(let name): "source=" + name
        }
    }
}
