// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
package import NIOCore
import Yams

/// The contract, written as YAML and served as JSON: converted once, when the server starts.
package struct OpenAPIDocument: Sendable {
    package let json: ByteBuffer

    package init() throws {
        let yaml = String(decoding: PackageResources.openapi_yaml, as: UTF8.self)
        guard let root = try Yams.compose(yaml: yaml) else { throw ControlServerError("openapi.yaml is empty") }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        json = ByteBuffer(bytes: try encoder.encode(JSONValue(root)))
    }
}

/// A YAML node that JSON can say too.
private enum JSONValue: Encodable {
    case object([String: JSONValue])
    case array([JSONValue])
    case string(String)
    case integer(Int)
    case number(Double)
    case boolean(Bool)

    init(_ node: Node) throws {
        switch node {
        case .mapping(let mapping):
            var object: [String: JSONValue] = [:]
            for (key, value) in mapping { object[key.string ?? ""] = try JSONValue(value) }
            self = .object(object)
        case .sequence(let sequence):
            self = .array(try sequence.map { try JSONValue($0) })
        case .scalar, .alias:
            self = JSONValue(scalar: node)
        }
    }

    private init(scalar node: Node) {
        switch node.any {
        case let value as Bool: self = .boolean(value)
        case let value as Int: self = .integer(value)
        case let value as Double: self = .number(value)
        case let value as String: self = .string(value)
        default: self = .string(node.string ?? "")
        }
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .object(let value): try container.encode(value)
        case .array(let value): try container.encode(value)
        case .string(let value): try container.encode(value)
        case .integer(let value): try container.encode(value)
        case .number(let value): try container.encode(value)
        case .boolean(let value): try container.encode(value)
        }
    }
}
