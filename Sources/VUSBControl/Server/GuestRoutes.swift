// SPDX-License-Identifier: Apache-2.0

import Hummingbird

enum GuestRoutes {
    @Sendable static func list(_ call: Call) async throws(Problem) -> Response {
        try Answer.json(await call.service.guests())
    }

    @Sendable static func show(_ call: Call) async throws(Problem) -> Response {
        try Answer.json(try await call.service.guest(try call.guest()))
    }

    @Sendable static func add(_ call: Call) async throws(Problem) -> Response {
        let guest = try await call.service.addGuest(try call.message(GuestSpec.self))
        return try Answer.json(guest, status: .created, location: Answer.location("/v1/guests", guest.name))
    }

    @Sendable static func remove(_ call: Call) async throws(Problem) -> Response {
        try await call.service.removeGuest(try call.guest())
        return Answer.empty()
    }

    @Sendable static func load(_ call: Call) async throws(Problem) -> Response {
        let guest = try call.guest()
        let request = try call.message(LoadRequest.self, default: LoadRequest())
        return try OperationRoutes.accepted(try await call.service.load(guest, request))
    }

    @Sendable static func unload(_ call: Call) async throws(Problem) -> Response {
        let guest = try call.guest()
        let request = try call.message(ReleaseRequest.self, default: ReleaseRequest())
        return try OperationRoutes.accepted(try await call.service.unload(guest, request))
    }
}
