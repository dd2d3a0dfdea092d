// SPDX-License-Identifier: Apache-2.0

/// An entry of what QEMU's `qom-list` answers with.
struct QOMProperty: Equatable {
    let name: String
    /// Such as `child<usb-bus>`, `link<usb-tablet>`, `uint32`.
    let type: String

    /// Entries that make no sense are left out.
    static func list(_ answer: JSONValue) -> [QOMProperty] {
        (answer.array ?? []).compactMap { entry in
            guard let name = entry["name"]?.string, let type = entry["type"]?.string else { return nil }
            // A name is a part of paths.
            guard !name.isEmpty, !name.contains("/"), name.utf8.count <= 200 else { return nil }
            return QOMProperty(name: name, type: type)
        }
    }

    /// The type of the object that belongs here; nil in other properties.
    var child: String? { argument("child<") }

    /// The type of the object that is referred to here.
    var link: String? { argument("link<") }

    private func argument(_ opening: String) -> String? {
        guard type.hasPrefix(opening), type.hasSuffix(">") else { return nil }
        return String(type.dropFirst(opening.count).dropLast())
    }
}
