// SPDX-License-Identifier: Apache-2.0

import Hummingbird

enum FocusRoutes {
    @Sendable static func list(_ call: Call) async throws(Problem) -> Response {
        try Answer.json(await call.service.focusSets())
    }

    @Sendable static func focus(_ call: Call) async throws(Problem) -> Response {
        try OperationRoutes.accepted(try await call.service.focus(try call.message(FocusRequest.self)))
    }
}
