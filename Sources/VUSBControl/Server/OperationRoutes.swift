// SPDX-License-Identifier: Apache-2.0

import HTTPTypes
import Hummingbird
import NIOCore
import ServiceLifecycle

enum OperationRoutes {
    @Sendable static func list(_ call: Call) async throws(Problem) -> Response {
        try Answer.json(await call.service.operations())
    }

    @Sendable static func cancel(_ call: Call) async throws(Problem) -> Response {
        try accepted(try await call.service.cancelOperation(try call.operation()))
    }

    static func accepted(_ operation: OperationInfo) throws(Problem) -> Response {
        try Answer.json(
            operation, status: .accepted, location: Answer.location("/v1/operations", String(operation.id)))
    }

    @Sendable static func show(_ call: Call) async throws(Problem) -> Response {
        let id = try call.operation()
        let wait = try call.seconds("wait", within: Rules.waits) ?? 0
        let after = try call.integer("after", as: Int.self)
        let operation = try await call.service.operation(id, waitSeconds: 0, afterSteps: nil)
        let newsAlready = after.map { operation.steps.count > $0 } ?? false
        guard wait > 0, operation.state == .running, !newsAlready else { return try Answer.json(operation) }
        return waiting(for: operation, seconds: wait, after: after, call)
    }

    /// The head goes out at once, the body when there's news. What ends the wait early, with the operation as it is:
    /// the client hangs up, or the server stops. The connection is closed afterwards.
    private static func waiting(
        for operation: OperationInfo, seconds: Double, after: Int?, _ call: Call
    ) -> Response {
        let body = ResponseBody { writer in
            let news: OperationInfo
            do {
                news = try await call.request.body.consumeWithCancellationOnInboundClose { _ in
                    try await cancelWhenGracefulShutdown {
                        try await call.service.operation(operation.id, waitSeconds: seconds, afterSteps: after)
                    }
                }
            } catch {
                news = operation  // Hung up, or forgotten meanwhile: the last that was known.
            }
            try await writer.write(try Answer.bytes(news))
            try await writer.finish(nil)
        }
        let fields: HTTPFields = [
            .contentType: "application/json", .cacheControl: "no-store", .connection: "close",
        ]
        return Response(status: .ok, headers: fields, body: body)
    }
}
