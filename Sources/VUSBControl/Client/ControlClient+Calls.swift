// SPDX-License-Identifier: Apache-2.0

import NIOCore
import NIOHTTP1

/// The interface's calls, one for one.
extension ControlClient {
    package func status() async throws -> DaemonStatus {
        try await call(.GET, "/v1/status", as: DaemonStatus.self)
    }

    package func doctor() async throws -> [Finding] { try await call(.GET, "/v1/doctor", as: [Finding].self) }

    package func devices() async throws -> [DeviceInfo] { try await call(.GET, "/v1/devices", as: [DeviceInfo].self) }

    package func device(_ name: String) async throws -> DeviceInfo {
        try await call(.GET, Self.path(device: name), as: DeviceInfo.self)
    }

    package func emulate(_ request: EmulateRequest) async throws -> DeviceInfo {
        try await call(.POST, "/v1/devices", body: request, as: DeviceInfo.self)
    }

    package func unplug(_ device: String) async throws { try await exchange(.DELETE, Self.path(device: device)) }

    package func trust(_ device: String) async throws -> DeviceInfo {
        try await call(.POST, Self.path(device: device) + "/trust", as: DeviceInfo.self)
    }

    package func type(_ request: TypeRequest, on device: String) async throws {
        try await exchange(.POST, Self.path(device: device) + "/type", body: request)
    }

    package func guests() async throws -> [GuestInfo] { try await call(.GET, "/v1/guests", as: [GuestInfo].self) }

    package func guest(_ name: String) async throws -> GuestInfo {
        try await call(.GET, Self.path(guest: name), as: GuestInfo.self)
    }

    package func addGuest(_ specification: GuestSpec) async throws -> GuestInfo {
        try await call(.POST, "/v1/guests", body: specification, as: GuestInfo.self)
    }

    package func removeGuest(_ name: String) async throws { try await exchange(.DELETE, Self.path(guest: name)) }

    package func claims() async throws -> [ClaimInfo] { try await call(.GET, "/v1/claims", as: [ClaimInfo].self) }

    package func addClaim(_ specification: ClaimSpec) async throws -> ClaimInfo {
        try await call(.POST, "/v1/claims", body: specification, as: ClaimInfo.self)
    }

    package func removeClaim(_ name: String) async throws {
        try await exchange(.DELETE, "/v1/claims/" + PercentEncoding.encode(name))
    }

    package func explainClaims(on device: String) async throws -> ClaimExplanation {
        try await call(.GET, Self.path(device: device) + "/claims", as: ClaimExplanation.self)
    }

    package func imports() async throws -> [ImportInfo] { try await call(.GET, "/v1/imports", as: [ImportInfo].self) }

    package func addImport(_ request: ImportRequest) async throws -> OperationInfo {
        try await call(.POST, "/v1/imports", body: request, as: OperationInfo.self)
    }

    package func forgetImport(_ id: String, _ request: ReleaseRequest) async throws -> OperationInfo {
        let deadline = request.deadlineSeconds.map { "deadline=\($0)" }
        let query = [deadline, request.onDeadline.map { "onDeadline=\($0.rawValue)" }].compactMap { $0 }
        let path =
            "/v1/imports/" + PercentEncoding.encode(id) + (query.isEmpty ? "" : "?" + query.joined(separator: "&"))
        return try await call(.DELETE, path, as: OperationInfo.self)
    }

    /// What a server lends; it may take its time to say.
    package func offers(of server: String) async throws -> [OfferInfo] {
        let path = "/v1/servers/" + PercentEncoding.encode(server) + "/devices"
        return try await call(.GET, path, as: [OfferInfo].self, waiting: .seconds(10))
    }

    package func focusSets() async throws -> [FocusInfo] { try await call(.GET, "/v1/focus", as: [FocusInfo].self) }

    package func focus(_ request: FocusRequest) async throws -> OperationInfo {
        try await call(.POST, "/v1/focus", body: request, as: OperationInfo.self)
    }

    package func modules() async throws -> [ModuleInfo] { try await call(.GET, "/v1/modules", as: [ModuleInfo].self) }

    package func load(_ guest: String, _ request: LoadRequest) async throws -> OperationInfo {
        try await call(.POST, Self.path(guest: guest) + "/load", body: request, as: OperationInfo.self)
    }

    package func unload(_ guest: String, _ request: ReleaseRequest) async throws -> OperationInfo {
        try await call(.POST, Self.path(guest: guest) + "/unload", body: request, as: OperationInfo.self)
    }

    package func attach(_ device: String, _ request: AttachRequest) async throws -> OperationInfo {
        try await call(.POST, Self.path(device: device) + "/attach", body: request, as: OperationInfo.self)
    }

    package func detach(_ device: String, _ request: ReleaseRequest) async throws -> OperationInfo {
        try await call(.POST, Self.path(device: device) + "/detach", body: request, as: OperationInfo.self)
    }

    package func switchDevice(_ device: String, _ request: SwitchRequest) async throws -> OperationInfo {
        try await call(.POST, Self.path(device: device) + "/switch", body: request, as: OperationInfo.self)
    }

    package func requestDevice(_ device: String, _ request: AttachRequest) async throws -> OperationInfo {
        try await call(.POST, Self.path(device: device) + "/request", body: request, as: OperationInfo.self)
    }

    package func hold(_ device: String, _ request: HoldRequest) async throws -> DeviceInfo {
        try await call(.POST, Self.path(device: device) + "/hold", body: request, as: DeviceInfo.self)
    }

    package func endHold(_ device: String) async throws {
        try await exchange(.DELETE, Self.path(device: device) + "/hold")
    }

    package func operations() async throws -> [OperationInfo] {
        try await call(.GET, "/v1/operations", as: [OperationInfo].self)
    }

    /// - Parameters:
    ///   - waitSeconds: how long to wait for its end or further steps; 0 to 60.
    ///   - afterSteps: how many steps are known already.
    package func operation(_ id: Int, waitSeconds: Int = 0, afterSteps: Int? = nil) async throws -> OperationInfo {
        var path = "/v1/operations/\(id)?wait=\(waitSeconds)"
        if let afterSteps { path += "&after=\(afterSteps)" }
        return try await call(.GET, path, as: OperationInfo.self, waiting: .seconds(Int64(waitSeconds)))
    }

    package func cancelOperation(_ id: Int) async throws -> OperationInfo {
        try await call(.DELETE, "/v1/operations/\(id)", as: OperationInfo.self)
    }

    /// Follows an operation to its end.
    /// - Parameter progress: called with each state that has news, the last one too.
    package func follow(
        _ operation: OperationInfo, progress: @Sendable (OperationInfo) async -> Void
    ) async throws -> OperationInfo {
        var operation = operation
        await progress(operation)
        while operation.state == .running {
            operation = try await self.operation(operation.id, waitSeconds: 30, afterSteps: operation.steps.count)
            await progress(operation)
        }
        return operation
    }

    private static func path(device: String) -> String { "/v1/devices/" + PercentEncoding.encode(device) }
    private static func path(guest: String) -> String { "/v1/guests/" + PercentEncoding.encode(guest) }
}
