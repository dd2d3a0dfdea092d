// SPDX-License-Identifier: Apache-2.0

import HTTPTypes
import Hummingbird

enum DaemonRoutes {
    @Sendable static func status(_ call: Call) async throws(Problem) -> Response {
        try Answer.json(await call.service.status())
    }

    @Sendable static func doctor(_ call: Call) async throws(Problem) -> Response {
        try Answer.json(await call.service.doctor())
    }

    @Sendable static func modules(_ call: Call) async throws(Problem) -> Response {
        try Answer.json(await call.service.modules())
    }

    @Sendable static func document(_ call: Call) async throws(Problem) -> Response {
        Response(
            status: .ok, headers: [.contentType: "application/json"],
            body: ResponseBody(byteBuffer: call.document.json))
    }
}
