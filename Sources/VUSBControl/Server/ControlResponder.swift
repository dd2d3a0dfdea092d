// SPDX-License-Identifier: Apache-2.0

import HTTPTypes
package import Hummingbird
import Logging
import NIOCore

/// What Hummingbird makes for each request: enough to know whose connection it came by.
package struct ControlContext: RequestContext {
    package var coreContext: CoreRequestContextStorage
    let channel: any Channel

    package init(source: ApplicationRequestContextSource) {
        coreContext = CoreRequestContextStorage(source: source)
        channel = source.channel
    }
}

/// Answers requests: who asks, which route, is the request well formed, then the route's handler. Whatever goes wrong
/// is a problem; nothing that a client sends makes a 5xx.
package struct ControlResponder: HTTPResponder {
    var service: any ControlService
    var policy: PeerPolicy
    var document: OpenAPIDocument
    var heartbeat: Duration
    var logger: Logger

    /// Bytes.
    static let largestBody = 64 * 1024

    package func respond(to request: Request, context: ControlContext) async throws -> Response {
        let peer = await PeerCredentials.of(context.channel)
        let response = try await answer(request, peer, context.channel)
        log(request, peer, response)
        // A HEAD's answer has no body, not even an error's.
        return request.method == .head ? response.createHeadResponse() : response
    }

    /// - Throws: what isn't a problem of this request but of the connection, such as a body that isn't HTTP.
    private func answer(
        _ request: Request, _ peer: PeerCredentials?, _ channel: any Channel
    ) async throws -> Response {
        var allowed: [HTTPRequest.Method] = []
        do {
            let rule = try admit(peer)
            let target = try RequestTarget(request.head.path ?? "")
            switch RouteTable.find(request.method, target.path) {
            case .route(let route, let parameters):
                let call = try await call(route, parameters, target, request, channel)
                guard try await route.rights.admit(rule, call) else { throw refusal(rule) }
                return try await Caller.$guests.withValue(rule.role == .guest ? rule.guests : nil) {
                    try await route.handler(call)
                }
            case .otherMethods(let methods):
                allowed = methods
                throw Problem(
                    .methodNotAllowed, "\(request.method.rawValue) isn't a method of this path",
                    remedy: "use \(methods.map(\.rawValue).joined(separator: " or "))")
            case .nothing:
                throw Problem(.notFound, "no such path", remedy: "see /openapi.json for those that there are")
            }
        } catch let problem as Problem {
            if problem.code == .denied { await audit(request, peer) }
            return Answer.problem(problem, allowed: allowed)
        }
    }

    private func refusal(_ rule: AccessRule) -> Problem {
        let own = rule.guests.isEmpty ? "" : " of \(rule.guests.sorted().joined(separator: ", "))"
        return Problem(
            .denied, "that isn't for a \(rule.role.rawValue)\(own) to do (\(rule.name))",
            remedy: "ask an operator, or an administrator to change `access` in vusb.yaml")
    }

    /// Who has tried what, and by which rule that was refused.
    private func audit(_ request: Request, _ peer: PeerCredentials?) async {
        let rule = peer.flatMap(policy.rule)?.name ?? "no rule"
        let who = peer.map { "uid \($0.user), process \($0.pid)" } ?? "nobody known"
        let path = Rules.shortened(request.uri.path)
        await service.noteRefusal("\(who): \(request.method.rawValue) \(path): \(rule)")
    }

    private func admit(_ peer: PeerCredentials?) throws(Problem) -> AccessRule {
        guard let peer else { throw Problem(.denied, "the connection doesn't tell who made it") }
        guard let rule = policy.rule(for: peer) else {
            throw Problem(
                .denied, "user \(peer.user) may not use vusbd",
                remedy: "ask an administrator to add the user to the socket's group, usually vusb")
        }
        return rule
    }

    private func call(
        _ route: Route, _ parameters: [String: String], _ target: RequestTarget, _ request: Request,
        _ channel: any Channel
    ) async throws -> Call {
        let query = try target.query(allowing: route.query)
        return Call(
            service: service, request: request, parameters: parameters, query: query,
            body: try await body(route, request), document: document, heartbeat: heartbeat,
            channel: channel)
    }

    private func body(_ route: Route, _ request: Request) async throws -> ByteBuffer {
        guard route.body != .none else { return ByteBuffer() }
        if let length = request.headers[.contentLength].flatMap({ Int($0) }), length > Self.largestBody {
            throw Self.tooLarge
        }
        let body: ByteBuffer
        do {
            body = try await request.body.collect(upTo: Self.largestBody)
        } catch is NIOTooManyBytesError {
            throw Self.tooLarge
        }
        if route.body == .optional, body.readableBytes == 0 { return body }
        try Self.checkType(request.headers[.contentType])
        return body
    }

    private static var tooLarge: Problem {
        Problem(.tooLarge, "the body has more than \(largestBody) bytes")
    }

    /// `application/json`, in any case, with no charset but UTF-8 (RFC 9110, 8.3.1).
    private static func checkType(_ type: String?) throws(Problem) {
        let parts = (type ?? "").lowercased().split(separator: ";").map { $0.filter { $0 != " " && $0 != "\t" } }
        let parameters = parts.dropFirst().allSatisfy {
            !$0.hasPrefix("charset=") || $0 == "charset=utf-8" || $0 == "charset=\"utf-8\""
        }
        guard parts.first == "application/json", parameters else {
            throw Problem(
                .unsupportedMediaType, "the body's type is '\(Rules.shortened(type ?? ""))'",
                remedy: "send JSON with Content-Type: application/json")
        }
    }

    /// Requests that would change something, also those that were refused.
    private func log(_ request: Request, _ peer: PeerCredentials?, _ response: Response) {
        guard request.method != .get, request.method != .head else { return }
        logger.info(
            "control request",
            metadata: [
                "uid": .stringConvertible(peer?.user ?? UInt32.max), "pid": .stringConvertible(peer?.pid ?? -1),
                "method": .string(request.method.rawValue), "path": .string(request.uri.path),
                "status": .stringConvertible(response.status.code),
            ])
    }
}
