// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import HTTPTypes
import Hummingbird
import NIOCore

/// Makes responses of messages.
enum Answer {
    static func json(
        _ message: some Encodable, status: HTTPResponse.Status = .ok, location: String? = nil
    ) throws(Problem) -> Response {
        var fields: HTTPFields = [.contentType: "application/json", .cacheControl: "no-store"]
        if let location { fields[.location] = location }
        return Response(status: status, headers: fields, body: ResponseBody(byteBuffer: try bytes(message)))
    }

    static func empty() -> Response { Response(status: .noContent) }

    /// - Parameter allowed: the methods that the path has, for 405.
    static func problem(_ problem: Problem, allowed: [HTTPRequest.Method] = []) -> Response {
        var fields: HTTPFields = [.contentType: "application/problem+json", .cacheControl: "no-store"]
        if !allowed.isEmpty { fields[.allow] = allowed.map(\.rawValue).joined(separator: ", ") }
        let body: ByteBuffer
        do {
            body = try bytes(problem)
        } catch {
            body = ByteBuffer()  // Strings and a number always encode.
        }
        return Response(
            status: HTTPResponse.Status(code: problem.status), headers: fields, body: ResponseBody(byteBuffer: body))
    }

    static func bytes(_ message: some Encodable) throws(Problem) -> ByteBuffer {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        do {
            return ByteBuffer(bytes: try encoder.encode(message))
        } catch {
            throw Problem(.failed, "the answer can't be written as JSON: \(error)", remedy: "report this")
        }
    }

    /// A path of one name below a collection; whatever isn't unreserved (RFC 3986, 2.3) is percent-encoded.
    static func location(_ collection: String, _ name: String) -> String {
        collection + "/" + PercentEncoding.encode(name)
    }
}
