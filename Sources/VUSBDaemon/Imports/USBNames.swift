// SPDX-License-Identifier: Apache-2.0

internal import Foundation

/// What devices are called by their ids, as far as this host has the list (usb.ids, of usbutils or hwdata).
struct USBNames: Sendable {
    struct Key: Hashable, Sendable {
        var vendor: UInt16
        var product: UInt16
    }

    private static let places = ["/usr/share/misc/usb.ids", "/usr/share/hwdata/usb.ids", "/var/lib/usbutils/usb.ids"]
    /// Twenty times as much as it has.
    private static let maximumSize = 16 << 20
    private var names: [Key: String] = [:]

    /// Those of `keys` that have a name; the vendor's alone where the product has none.
    subscript(_ key: Key) -> String? { names[key] }

    /// Off the actor that asks: the file has nearly a megabyte.
    static func read(_ keys: [Key]) async -> USBNames {
        guard !keys.isEmpty else { return USBNames() }
        for place in places {
            guard let bytes = FileManager.default.contents(atPath: place), bytes.count <= maximumSize else { continue }
            return USBNames(keys, in: String(decoding: bytes, as: UTF8.self))
        }
        return USBNames()
    }

    init() {}

    /// Lines are `VVVV  NAME`, below each `<tab>PPPP  NAME`; other lists follow, which begin with a letter and a space.
    init(_ keys: [Key], in text: String) {
        let wanted = Dictionary(grouping: Set(keys), by: \.vendor)
        var vendor: (id: UInt16, name: String)?
        for line in text.utf8.split(separator: UInt8(ascii: "\n")) {
            if line.first == UInt8(ascii: "\t") {
                guard let vendor, let (id, name) = Self.entry(line.dropFirst()) else { continue }
                let key = Key(vendor: vendor.id, product: id)
                if wanted[vendor.id]?.contains(key) == true { names[key] = "\(vendor.name) \(name)" }
            } else {
                vendor = Self.entry(line).flatMap { wanted[$0.id] == nil ? nil : $0 }
                guard let vendor else { continue }
                for key in wanted[vendor.id] ?? [] { names[key] = vendor.name }
            }
        }
    }

    private static func entry(_ line: Substring.UTF8View.SubSequence) -> (id: UInt16, name: String)? {
        let digits = line.prefix(4)
        guard digits.count == 4, line.dropFirst(4).starts(with: "  ".utf8),
            let id = UInt16(String(decoding: digits, as: UTF8.self), radix: 16)
        else { return nil }
        return (id, String(decoding: line.dropFirst(6), as: UTF8.self))
    }
}
