// SPDX-License-Identifier: Apache-2.0

/// What a route takes of whoever calls it.
package enum Rights: Sendable {
    /// Anybody who may use the socket.
    case look
    case operate
    /// An operator, or the owner of all guests that it concerns. What concerns none is an operator's.
    case own(@Sendable (Call) async throws(Problem) -> Set<String>)
}

extension Rights {
    /// - Returns: whether the rule lets it be done.
    func admit(_ rule: AccessRule, _ call: Call) async throws(Problem) -> Bool {
        switch (self, rule.role) {
        case (.look, _), (_, .operator): return true
        case (.own(let concerned), .guest):
            let guests = try await concerned(call)
            return !guests.isEmpty && guests.isSubset(of: rule.guests)
        case (.operate, _), (.own, .viewer): return false
        }
    }
}

/// Which guests a call concerns.
enum Concerned {
    @Sendable static func pathGuest(_ call: Call) async throws(Problem) -> Set<String> { [try call.guest()] }

    @Sendable static func attach(_ call: Call) async throws(Problem) -> Set<String> {
        [try call.message(AttachRequest.self).guest]
    }

    /// Who takes a device in any case does something to whoever has it.
    @Sendable static func switchDevice(_ call: Call) async throws(Problem) -> Set<String> {
        let request = try call.message(SwitchRequest.self)
        let holder = request.onDeadline == .cancel ? try await holder(call) : []
        return holder.union([request.guest])
    }

    /// Keyboards and mice are taken from whoever has them, whatever they are at.
    @Sendable static func focus(_ call: Call) async throws(Problem) -> Set<String> {
        let request = try call.message(FocusRequest.self)
        let sets = await call.service.focusSets().filter { request.set == nil || $0.name == request.set }
        let present = Set(sets.flatMap(\.present))
        let holders = await call.service.devices().filter { present.contains($0.id) }.compactMap(\.attachment?.guest)
        return Set(holders + [request.guest])
    }

    /// What is loaded into this host's kernel, or tied to a process of somebody's, concerns more than the guest.
    @Sendable static func load(_ call: Call) async throws(Problem) -> Set<String> {
        let request = try call.message(LoadRequest.self, default: LoadRequest())
        guard request.process == nil, request.mode != "module" else { return [] }
        return [try call.guest()]
    }

    /// Of a device.
    @Sendable static func holder(_ call: Call) async throws(Problem) -> Set<String> {
        Set([try await call.service.device(try call.device()).attachment?.guest].compactMap { $0 })
    }

    @Sendable static func operation(_ call: Call) async throws(Problem) -> Set<String> {
        let operation = try await call.service.operation(try call.operation(), waitSeconds: 0, afterSteps: nil)
        return Set([operation.guest].compactMap { $0 })
    }
}
