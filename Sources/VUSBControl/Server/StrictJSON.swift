// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import NIOCore

/// A body that clients send: decoded strictly, so that a misspelt field is an error and not a default.
protocol RequestMessage: Decodable, Sendable {
    /// The JSON names of all fields.
    static var fields: [String] { get }
    /// Checks what the schema says beyond types: ranges, patterns, lengths.
    func check() throws(Problem)
}

/// JSON as `openapi.yaml` has it: no unknown fields, no null, no field of another type.
enum StrictJSON {
    static func decode<Message: RequestMessage>(_ type: Message.Type, from body: ByteBuffer) throws(Problem) -> Message
    {
        let data = Data(body.readableBytesView)
        // JSON is UTF-8 (RFC 8259, 8.1); the decoder would also take UTF-16 and UTF-32.
        guard String(validating: data, as: UTF8.self) != nil else { throw Problem(.malformed, "the body isn't UTF-8") }
        do {
            let keys = try JSONDecoder().decode(Fields.self, from: data)
            try keys.check(against: type.fields)
        } catch let problem as Problem {
            throw problem
        } catch let error as DecodingError {
            throw problem(error)
        } catch {
            throw Problem(.malformed, "the body isn't JSON")
        }
        return try decode(type, from: data)
    }

    /// What's known to be an object with no other fields than the message's.
    private static func decode<Message: RequestMessage>(_ type: Message.Type, from data: Data) throws(Problem)
        -> Message
    {
        do {
            let message = try JSONDecoder().decode(type, from: data)
            try message.check()
            return message
        } catch let problem as Problem {
            throw problem
        } catch DecodingError.dataCorrupted(let context) where context.codingPath.isEmpty {
            // The decoder doesn't say where it met a number that its field can't hold.
            throw Problem(
                .malformed, "a number in the body doesn't fit its field: \(type.fields.joined(separator: ", "))")
        } catch let error as DecodingError {
            throw problem(error)
        } catch {
            throw Problem(.malformed, "the body doesn't fit its schema")
        }
    }

    private static func problem(_ error: DecodingError) -> Problem {
        switch error {
        case .keyNotFound(let key, let context):
            Problem(.malformed, "field '\(path(context.codingPath + [key]))' is missing")
        case .typeMismatch(let type, let context):
            Problem(.malformed, "\(subject(context.codingPath)) isn't \(name(type))")
        case .valueNotFound(_, let context):
            Problem(.malformed, "\(subject(context.codingPath)) is null", remedy: "leave the field out")
        case .dataCorrupted(let context) where context.codingPath.isEmpty:
            Problem(.malformed, "the body isn't JSON")
        case .dataCorrupted(let context):
            Problem(.malformed, "\(subject(context.codingPath)) has a value that isn't one of its own")
        @unknown default:
            Problem(.malformed, "the body doesn't fit its schema")
        }
    }

    private static func subject(_ keys: [any CodingKey]) -> String {
        keys.isEmpty ? "the body" : "field '\(path(keys))'"
    }

    private static func path(_ keys: [any CodingKey]) -> String {
        keys.map { $0.intValue.map(String.init) ?? $0.stringValue }.joined(separator: ".")
    }

    /// A type as JSON calls it.
    private static func name(_ type: Any.Type) -> String {
        if type is any BinaryInteger.Type { return "an integer" }
        if type is any BinaryFloatingPoint.Type { return "a number" }
        if type == String.self { return "a string" }
        if type == Bool.self { return "a Boolean" }
        return type is any RangeReplaceableCollection.Type || type == [Any].self ? "an array" : "an object"
    }
}

/// The names in an object, and which of them are null.
private struct Fields: Decodable {
    var names: [String] = []
    var nulls: [String] = []

    struct Key: CodingKey {
        var stringValue: String
        var intValue: Int? { nil }
        init(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }
    }

    init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: Key.self)
        for key in container.allKeys {
            names.append(key.stringValue)
            if try container.decodeNil(forKey: key) { nulls.append(key.stringValue) }
        }
    }

    func check(against known: [String]) throws(Problem) {
        if let unknown = names.sorted().first(where: { !known.contains($0) }) {
            throw Problem(
                .malformed, "field '\(unknown)' isn't one of this request",
                remedy: "it takes \(known.joined(separator: ", "))")
        }
        if let null = nulls.min() {
            throw Problem(.malformed, "field '\(null)' is null", remedy: "leave the field out")
        }
    }
}
