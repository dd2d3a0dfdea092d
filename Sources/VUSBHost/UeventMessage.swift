// SPDX-License-Identifier: Apache-2.0

/// A message of the kernel's about a change among its devices (`lib/kobject_uevent.c`): `action@path`, then
/// `KEY=value` strings, each with a NUL at its end. Bytes from outside.
package struct UeventMessage: Equatable, Sendable {
    /// `add`, `remove`, `change`, `bind`, `unbind`, ...
    package let action: String
    /// Below /sys.
    package let devicePath: String
    package let subsystem: String?
    package let deviceType: String?
    package let busNumber: Int?
    package let deviceNumber: Int?

    /// What sysfs calls the device: the last component of its path.
    package var deviceName: String {
        devicePath.utf8.split(separator: UInt8(ascii: "/")).last.map { String(decoding: $0, as: UTF8.self) } ?? ""
    }

    package var isUSBDevice: Bool { subsystem == "usb" && deviceType == "usb_device" }

    /// As much as the kernel sends is 2 KiB and a path; a datagram of netlink may be longer.
    package static let maximumByteCount = 64 << 10

    /// Nil unless the whole is well-formed. Messages of udevd, which begin with `libudev`, aren't.
    package init?(parsing bytes: borrowing Span<UInt8>) {
        guard bytes.count > 0, bytes.count <= Self.maximumByteCount, bytes[bytes.count - 1] == 0,
            let header = Self.string(bytes, from: 0),
            let at = header.firstIndex(of: UInt8(ascii: "@")), at > 0, at + 1 < header.count
        else { return nil }
        var values: [String: String] = [:]
        var position = header.count + 1
        while position < bytes.count {
            guard let entry = Self.string(bytes, from: position) else { return nil }
            position += entry.count + 1
            guard let equals = entry.firstIndex(of: UInt8(ascii: "=")), equals > 0 else { return nil }
            let key = String(decoding: entry[..<equals], as: UTF8.self)
            guard Self.keys.contains(key) else { continue }
            values[key] = String(decoding: entry[(equals + 1)...], as: UTF8.self)
        }
        let action = String(decoding: header[..<at], as: UTF8.self)
        let path = String(decoding: header[(at + 1)...], as: UTF8.self)
        guard path.hasPrefix("/"), values["ACTION"] ?? action == action, values["DEVPATH"] ?? path == path else {
            return nil
        }
        self.action = action
        devicePath = path
        subsystem = values["SUBSYSTEM"]
        deviceType = values["DEVTYPE"]
        busNumber = values["BUSNUM"].flatMap { Int($0) }
        deviceNumber = values["DEVNUM"].flatMap { Int($0) }
    }

    private static let keys: Set<String> = ["ACTION", "DEVPATH", "SUBSYSTEM", "DEVTYPE", "BUSNUM", "DEVNUM"]

    /// The bytes up to the next NUL; nil where there is none.
    private static func string(_ bytes: borrowing Span<UInt8>, from start: Int) -> [UInt8]? {
        var result: [UInt8] = []
        var index = start
        while index < bytes.count {
            if bytes[index] == 0 { return result }
            result.append(bytes[index])
            index += 1
        }
        return nil
    }
}
