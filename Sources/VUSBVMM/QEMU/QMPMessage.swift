// SPDX-License-Identifier: Apache-2.0

/// A command that QEMU, or its guest agent, refused.
struct QMPRefusal: Error, Equatable {
    /// `GenericError`, `CommandNotFound`, `DeviceNotFound` ...
    let errorClass: String
    /// For people, in English.
    let text: String

    init(errorClass: String, text: String) {
        self.errorClass = errorClass
        self.text = text
    }

    /// The member `error` of an answer. Texts of a guest are shortened, and get no line of their own in a log.
    init?(_ value: JSONValue) {
        guard let errorClass = value["class"]?.string, let text = value["desc"]?.string else { return nil }
        self.init(errorClass: PlainText.line(errorClass, limit: 100), text: PlainText.line(text, limit: 500))
    }
}

/// An asynchronous event of QEMU.
struct QMPEvent: Sendable, Equatable {
    let name: String
    let data: JSONValue
}

/// What QEMU says in one line (docs/interop/qmp-spec).
enum QMPMessage: Equatable {
    /// The first one, with QEMU's version such as `7.2.22`.
    case greeting(version: String)
    /// The id is that of the command; QEMU leaves it out where it couldn't parse one.
    case answer(id: Int?, Result<JSONValue, QMPRefusal>)
    case event(QMPEvent)

    /// Nil where it is none of them.
    init?(parsing line: [UInt8]) {
        guard let message = JSONValue(parsing: line) else { return nil }
        if let greeting = message["QMP"] {
            self = .greeting(version: Self.version(greeting["version"]?["qemu"]))
        } else if let name = message["event"]?.string {
            self = .event(QMPEvent(name: name, data: message["data"] ?? .null))
        } else if let value = message["return"] {
            self = .answer(id: message["id"]?.integer, .success(value))
        } else if let refusal = message["error"].flatMap({ QMPRefusal($0) }) {
            self = .answer(id: message["id"]?.integer, .failure(refusal))
        } else {
            return nil
        }
    }

    private static func version(_ value: JSONValue?) -> String {
        ["major", "minor", "micro"].compactMap { value?[$0]?.integer }.map { String($0) }.joined(separator: ".")
    }
}
