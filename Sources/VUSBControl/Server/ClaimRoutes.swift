// SPDX-License-Identifier: Apache-2.0

import Hummingbird

enum ClaimRoutes {
    @Sendable static func list(_ call: Call) async throws(Problem) -> Response {
        try Answer.json(await call.service.claims())
    }

    @Sendable static func add(_ call: Call) async throws(Problem) -> Response {
        let claim = try await call.service.addClaim(try call.message(ClaimSpec.self))
        return try Answer.json(claim, status: .created, location: Answer.location("/v1/claims", claim.name))
    }

    @Sendable static func show(_ call: Call) async throws(Problem) -> Response {
        try Answer.json(try await call.service.claim(try call.claim()))
    }

    @Sendable static func remove(_ call: Call) async throws(Problem) -> Response {
        try await call.service.removeClaim(try call.claim())
        return Answer.empty()
    }

    @Sendable static func explain(_ call: Call) async throws(Problem) -> Response {
        try Answer.json(try await call.service.explainClaims(on: try call.device()))
    }
}
