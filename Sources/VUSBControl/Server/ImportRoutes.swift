// SPDX-License-Identifier: Apache-2.0

import Hummingbird

enum ImportRoutes {
    @Sendable static func list(_ call: Call) async throws(Problem) -> Response {
        try Answer.json(await call.service.imports())
    }

    @Sendable static func add(_ call: Call) async throws(Problem) -> Response {
        try OperationRoutes.accepted(try await call.service.addImport(try call.message(ImportRequest.self)))
    }

    @Sendable static func show(_ call: Call) async throws(Problem) -> Response {
        try Answer.json(try await call.service.importedDevice(try call.device()))
    }

    @Sendable static func forget(_ call: Call) async throws(Problem) -> Response {
        let device = try call.device()
        var request = ReleaseRequest(deadlineSeconds: try call.seconds("deadline", within: Rules.deadlines))
        if let text = call.query["onDeadline"] {
            guard let choice = ReleaseRequest.OnDeadline(rawValue: text) else {
                throw Problem(
                    .malformed, "query parameter 'onDeadline' is '\(Rules.shortened(text))'",
                    remedy: "use refuse, cancel or wait")
            }
            request.onDeadline = choice
        }
        return try OperationRoutes.accepted(try await call.service.forgetImport(device, request))
    }

    @Sendable static func offers(_ call: Call) async throws(Problem) -> Response {
        try Answer.json(try await call.service.offers(of: try Rules.server(call.parameters["server"] ?? "")))
    }
}
