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

    @Sendable static func switchDevice(_ call: Call) async throws(Problem) -> Response {
        let device = try call.device()
        let request = try call.message(SwitchRequest.self)
        return try OperationRoutes.accepted(try await call.service.switchDevice(device, request))
    }

    @Sendable static func request(_ call: Call) async throws(Problem) -> Response {
        let device = try call.device()
        let request = try call.message(AttachRequest.self)
        return try OperationRoutes.accepted(try await call.service.requestDevice(device, request))
    }

    @Sendable static func hold(_ call: Call) async throws(Problem) -> Response {
        let device = try call.device()
        return try Answer.json(
            try await call.service.hold(device, try call.message(HoldRequest.self, default: HoldRequest())))
    }

    @Sendable static func endHold(_ call: Call) async throws(Problem) -> Response {
        try await call.service.endHold(try call.device())
        return Answer.empty()
    }

    @Sendable static func trust(_ call: Call) async throws(Problem) -> Response {
        try Answer.json(try await call.service.trust(try call.device()))
    }

    @Sendable static func type(_ call: Call) async throws(Problem) -> Response {
        let device = try call.device()
        try await call.service.type(try call.message(TypeRequest.self), on: device)
        return Answer.empty()
    }
}
