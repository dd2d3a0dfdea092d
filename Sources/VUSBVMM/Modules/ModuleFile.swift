// SPDX-License-Identifier: Apache-2.0

package import VUSBCore

/// What a kernel module says of itself: the section `.modinfo` of a `.ko`, and whether a signature is at its end.
/// Bytes from outside, also from a guest.
package struct ModuleFile: Sendable, Hashable {
    package let name: String
    /// As its author gave it; may be empty.
    package let version: String
    /// A hash over its sources; empty where the kernel was built without.
    package let sourceVersion: String
    package let vermagic: Vermagic
    /// Modules that must be there before it.
    package let depends: [String]
    package let isSigned: Bool
    /// The processor it is for, `e_machine` of its ELF header.
    package let machine: UInt16

    /// A section is a few hundred bytes; those of modules with hundreds of aliases stay below this.
    private static let maximumSectionSize = 1 << 20
    private static let maximumDependencies = 64
    /// `scripts/sign-file.c` puts it behind the signature.
    private static let signatureMark = Array("~Module signature appended~\n".utf8)

    /// - Parameter path: for messages.
    /// - Throws: `invalid` with what is wrong with it.
    package init(parsing bytes: borrowing Span<UInt8>, path: String) throws(USBError) {
        guard let sections = ELFSections(bytes) else {
            throw Self.invalid(path, "isn't a 64-bit little-endian kernel module")
        }
        guard let section = sections.range(of: ".modinfo", in: bytes), section.count <= Self.maximumSectionSize else {
            throw Self.invalid(path, "has no readable section .modinfo")
        }
        let values = Self.values(in: bytes, section)
        guard let name = values["name"], Self.isName(name) else {
            throw Self.invalid(path, "doesn't say the module's name")
        }
        guard let vermagic = values["vermagic"].flatMap({ Vermagic($0) }) else {
            throw Self.invalid(path, "doesn't say the kernel that it is for (vermagic)")
        }
        let depends = (values["depends"] ?? "").split(separator: ",").map { String($0) }
        guard depends.count <= Self.maximumDependencies, depends.allSatisfy({ Self.isName($0) }) else {
            throw Self.invalid(path, "names impossible modules that it depends on")
        }
        self.name = name
        self.vermagic = vermagic
        self.depends = depends
        version = Self.printable(values["version"] ?? "")
        sourceVersion = Self.printable(values["srcversion"] ?? "")
        isSigned = Self.endsInMark(bytes)
        machine = sections.machine
    }

    /// `MODULE_NAME_LEN` is 56 with the NUL at its end; the rest is what names are made of.
    package static func isName(_ text: String) -> Bool {
        (1...55).contains(text.utf8.count) && text.first != "-"
            && text.utf8.allSatisfy { byte in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                    UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "-"):
                    true
                default: false
                }
            }
    }

    private static let keys: Set<String> = ["name", "version", "srcversion", "vermagic", "depends"]

    /// `key=value` strings with NULs between them. The first of a key counts, as for the kernel.
    private static func values(in bytes: borrowing Span<UInt8>, _ section: Range<Int>) -> [String: String] {
        var result: [String: String] = [:]
        var entry: [UInt8] = []
        for index in section {
            if bytes[index] != 0 {
                entry.append(bytes[index])
                continue
            }
            add(entry, to: &result)
            entry.removeAll(keepingCapacity: true)
        }
        return result
    }

    private static func add(_ entry: [UInt8], to values: inout [String: String]) {
        guard let equals = entry.firstIndex(of: UInt8(ascii: "=")) else { return }
        let key = String(decoding: entry[..<equals], as: UTF8.self)
        guard keys.contains(key), values[key] == nil else { return }
        values[key] = String(decoding: entry[(equals + 1)...], as: UTF8.self)
    }

    private static func printable(_ text: String) -> String { PlainText.line(text, limit: 64) }

    private static func endsInMark(_ bytes: borrowing Span<UInt8>) -> Bool {
        let start = bytes.count - signatureMark.count
        return start >= 0 && signatureMark.indices.allSatisfy { bytes[start + $0] == signatureMark[$0] }
    }

    private static func invalid(_ path: String, _ what: String) -> USBError {
        USBError(.invalid, "\(path) \(what)", remedy: "build the modules again, for the guest's kernel")
    }
}
