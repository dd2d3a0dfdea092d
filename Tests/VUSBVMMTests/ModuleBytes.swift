// SPDX-License-Identifier: Apache-2.0

/// Makes the bytes of kernel modules: an ELF header, a section .modinfo, the section names and the table of sections.
struct ModuleBytes {
    var entries: [String]
    var machine: UInt16 = 62
    var isSigned = false

    static let vermagic = "6.1.0-56-amd64 SMP preempt mod_unload modversions "

    init(
        _ name: String, vermagic: String = Self.vermagic, version: String = "0.1.0", depends: String = "usbcore",
        sourceVersion: String = "AAAA"
    ) {
        entries = [
            "license=GPL", "version=\(version)", "srcversion=\(sourceVersion)", "depends=\(depends)", "name=\(name)",
            "vermagic=\(vermagic)",
        ]
    }

    /// `.modinfo` begins behind the header, then the names, then the table of three sections.
    var bytes: [UInt8] {
        let modinfo: [UInt8] = entries.flatMap { [UInt8]($0.utf8) + [0] }
        let names = [UInt8]("\0.modinfo\0.shstrtab\0".utf8)
        let table = 64 + modinfo.count + names.count
        var result: [UInt8] = [0x7f, 0x45, 0x4c, 0x46, 2, 1, 1] + [UInt8](repeating: 0, count: 9)
        result += number(UInt16(1)) + number(machine) + number(UInt32(1))
        result += number(UInt64(0)) + number(UInt64(0)) + number(UInt64(table)) + number(UInt32(0))
        // e_ehsize, e_phentsize, e_phnum, e_shentsize, e_shnum, e_shstrndx
        for value: UInt16 in [64, 0, 0, 64, 3, 2] { result += number(value) }
        result += modinfo + names
        result += section(name: 0, type: 0, at: 0, size: 0)
        result += section(name: 1, type: 1, at: 64, size: modinfo.count)
        result += section(name: 10, type: 3, at: 64 + modinfo.count, size: names.count)
        return isSigned ? result + Array("~Module signature appended~\n".utf8) : result
    }

    private func section(name: UInt32, type: UInt32, at offset: Int, size: Int) -> [UInt8] {
        var result = number(name) + number(type) + number(UInt64(0)) + number(UInt64(0))
        result += number(UInt64(offset)) + number(UInt64(size)) + [UInt8](repeating: 0, count: 24)
        return result
    }

    private func number<T: FixedWidthInteger>(_ value: T) -> [UInt8] {
        (0..<T.bitWidth / 8).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) }
    }
}
