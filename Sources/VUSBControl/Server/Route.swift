// SPDX-License-Identifier: Apache-2.0

package import Hummingbird
import NIOCore

/// One method of one path, and what it takes.
package struct Route: Sendable {
    package enum Body: Sendable {
        /// What is sent isn't looked at.
        case none
        case optional
        case required
    }

    package typealias Handler = @Sendable (Call) async throws(Problem) -> Response

    package var method: HTTPRequest.Method
    /// As in `openapi.yaml`: `/v1/devices/{device}`.
    package var template: String
    /// The query parameters that it knows.
    package var query: Set<String>
    package var body: Body
    package var rights: Rights
    package var handler: Handler
    let segments: [Segment]

    enum Segment: Sendable, Equatable {
        case literal(String)
        case parameter(String)
    }

    /// - Parameter rights: where it isn't `look` for a GET, and `operate` for others.
    init(
        _ method: HTTPRequest.Method, _ template: String, query: Set<String> = [], body: Body = .none,
        rights: Rights? = nil, _ handler: @escaping Handler
    ) {
        self.method = method
        self.template = template
        self.query = query
        self.body = body
        self.rights = rights ?? (method == .get ? .look : .operate)
        self.handler = handler
        segments = template.split(separator: "/").map {
            $0.first == "{" ? .parameter(String($0.dropFirst().dropLast())) : .literal(String($0))
        }
    }

    /// The path's parameters, if it's a path of this route.
    func match(_ path: [String]) -> [String: String]? {
        guard path.count == segments.count else { return nil }
        var parameters: [String: String] = [:]
        for (segment, text) in zip(segments, path) {
            switch segment {
            case .literal(let literal): guard literal == text else { return nil }
            case .parameter(let name): parameters[name] = text
            }
        }
        return parameters
    }
}

/// A request that reached its route, taken apart.
package struct Call: Sendable {
    var service: any ControlService
    var request: Request
    var parameters: [String: String]
    var query: [String: String]
    /// Empty if none was sent.
    var body: ByteBuffer
    var document: OpenAPIDocument
    var heartbeat: Duration
    /// The connection that it came by.
    var channel: any Channel
}
