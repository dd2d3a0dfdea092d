// SPDX-License-Identifier: Apache-2.0

import Hummingbird

enum DeviceRoutes {
    @Sendable static func list(_ call: Call) async throws(Problem) -> Response {
        try Answer.json(await call.service.devices())
    }

    @Sendable static func show(_ call: Call) async throws(Problem) -> Response {
        try Answer.json(try await call.service.device(try call.device()))
    }

    @Sendable static func emulate(_ call: Call) async throws(Problem) -> Response {
        let device = try await call.service.emulate(try call.message(EmulateRequest.self))
        return try Answer.json(device, status: .created, location: Answer.location("/v1/devices", device.id))
    }

    @Sendable static func unplug(_ call: Call) async throws(Problem) -> Response {
        try await call.service.unplug(try call.device())
        return Answer.empty()
    }

    @Sendable static func attach(_ call: Call) async throws(Problem) -> Response {
        let device = try call.device()
        return try OperationRoutes.accepted(
            try await call.service.attach(device, try call.message(AttachRequest.self)))
    }

    @Sendable static func detach(_ call: Call) async throws(Problem) -> Response {
        let device = try call.device()
        let request = try call.message(ReleaseRequest.self, default: ReleaseRequest())
        return try OperationRoutes.accepted(try await call.service.detach(device, request))
    }

    @Sendable static func type(_ call: Call) async throws(Problem) -> Response {
        let device = try call.device()
        try await call.service.type(try call.message(TypeRequest.self), on: device)
        return Answer.empty()
    }
}
