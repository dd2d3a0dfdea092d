// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// A device of a server.
package struct USBIPRemote: Hashable, Sendable {
    package let server: USBIPServer
    /// 1 to 31 bytes of `[A-Za-z0-9._:-]`: what the server calls it.
    package let busID: String

    /// Nil for a busid that can't be.
    package init?(server: USBIPServer, busID: String) {
        guard Self.isBusID(busID) else { return nil }
        self.server = server
        self.busID = busID
    }

    static func isBusID(_ text: String) -> Bool {
        (1..<USBIPNumbers.busIDBytes).contains(text.utf8.count)
            && text.utf8.allSatisfy { $0.isASCIILetterOrDigit || "._:-".utf8.contains($0) }
    }
}

extension USBIPRemote: CustomStringConvertible {
    package var description: String { "\(busID) of \(server)" }
}

extension USBIPRemote {
    private static let longestName = 60

    /// `ip-NAME`; where no name is given one is made of server and busid, the same every time.
    /// - Throws: `invalid` for a name that can't be.
    func id(name: String?) throws(USBError) -> DeviceID {
        guard let name else { return DeviceID("ip-\(derivedName)") }
        guard (1...Self.longestName).contains(name.utf8.count), name.utf8.first?.isASCIILetterOrDigit == true,
            name.utf8.allSatisfy({ $0.isASCIILetterOrDigit || "._-".utf8.contains($0) })
        else {
            throw USBError(
                .invalid, "an imported device can't be called '\(name)'",
                remedy: "use letters, digits and ._-, not first, at most \(Self.longestName)")
        }
        return DeviceID("ip-\(name)")
    }

    private var derivedName: String {
        let place = "\(server)".hasPrefix("unix:/") ? String("\(server)".dropFirst(6)) : "\(server)"
        let plain = "\(place)-\(busID)".utf8.filter { $0 != UInt8(ascii: "[") && $0 != UInt8(ascii: "]") }
        let name = String(
            decoding: plain.map { $0.isASCIILetterOrDigit || "._-".utf8.contains($0) ? $0 : UInt8(ascii: "-") },
            as: UTF8.self)
        guard name.utf8.count > Self.longestName else { return name }
        // Two that are cut must not become one: FNV-1a of the whole.
        let hash = name.utf8.reduce(0x811c_9dc5 as UInt32) { ($0 ^ UInt32($1)) &* 0x0100_0193 }
        return "\(name.prefix(Self.longestName - 9))-\(String(hash, radix: 16))"
    }
}
