// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl
internal import VUSBVMM

/// Mode `auto` of a guest that could have a controller or the module: what is measured decides. Arbiter.md, M1 to M6.
extension ControlPlane {
    /// With mode `auto`: `redirect` where its machine has an xHCI controller, and the measure isn't for the module; else
    /// what the declaration suffices for.
    func choosingMode(_ name: String, _ plan: LoadPlan, operation: Int) async throws(Problem) -> LoadPlan {
        guard plan.isAuto, let definition = guestRegistry[name]?.definition, definition.machine != nil else {
            return plan
        }
        var chosen = plan
        let fallback: GuestMode = definition.possibleModes.contains(.module) ? .module : .files
        chosen.mode = try await suitsRedirect(name, operation: operation) ? .redirect : fallback
        if chosen.mode == .redirect, fallback == .module {
            chosen.mode = chooseByMeasure(name, operation: operation)
            chosen.mayHaveController = chosen.mode == .module
        }
        change(name) { $0.loadedMode = chosen.mode }
        return chosen
    }

    /// M2 to M4.
    private func chooseByMeasure(_ name: String, operation: Int) -> GuestMode {
        guard let guest = guestRegistry[name] else { return .redirect }
        guard let current = guest.autoMode else {
            noteChosen(.redirect, for: name)
            return .redirect
        }
        let advice = guest.modeMeter.advice(for: current, at: .now, rule: modeRule)
        guard advice.mode != current else { return current }
        operationLog.step(operation, "mode \(advice.mode.rawValue): \(advice.reason)")
        emit(.modeChosen, guest: name, detail: "\(advice.mode.rawValue): \(advice.reason)")
        noteChosen(advice.mode, for: name)
        return advice.mode
    }

    private func noteChosen(_ mode: GuestMode, for name: String) {
        change(name) { guest in
            guest.autoMode = mode
            guest.modeMeter.moved(at: .now)
        }
    }

    /// Brings up what the plan's mode needs in the guest.
    /// - Returns: the mode that it came to: where the module can't be had, and was only the better choice, a controller (M6).
    func bringUpMode(_ name: String, _ plan: LoadPlan, operation: Int) async throws(Problem) -> GuestMode {
        let began = ContinuousClock.now
        var mode = plan.mode
        switch plan.mode {
        case .module where plan.mayHaveController:
            mode = try await bringUpModuleOrController(name, plan, operation: operation)
        case .module: try await bringUpModule(name, plan, operation: operation)
        case .redirect: try await bringUpRedirect(name, operation: operation)
        case .usbip: try await bringUpUSBIP(name, plan, operation: operation)
        case .files:
            settleMajor(of: name)
            prepareTelling(name, operation: operation)
        }
        // How long a machine boots isn't the mode's doing.
        let isPure = !plan.waitsForBoot && mode == plan.mode
        if isPure { measure(.load, of: name, took: ContinuousClock.now - began) }
        // vusbd's own restart and a move aren't the guest's.
        if ![.restore, .move].contains(plan.origin) { count(.load, of: name) }
        return mode
    }

    private func bringUpModuleOrController(
        _ name: String, _ plan: LoadPlan, operation: Int
    ) async throws(Problem) -> GuestMode {
        do {
            try await bringUpModule(name, plan, operation: operation)
            return .module
        } catch {
            try checkGoing(name, operation)
            if let failure = await removeModules(from: name, operation: operation) {
                tellOfLeftovers(in: name, because: failure, operation: operation)
                throw error
            }
            operationLog.step(operation, "not with the module: \(error.detail)")
            emit(.modeChosen, guest: name, detail: "redirect: not with the module: \(error.detail)")
        }
        tree.closeChannel(of: name)
        noteChosen(.redirect, for: name)
        change(name) { $0.loadedMode = .redirect }
        try await bringUpRedirect(name, operation: operation)
        return .redirect
    }

    // MARK: - Measuring

    /// Counts a change of a guest or one of its devices.
    func count(_ change: ModeMeter.Change, of name: String) {
        let rule = modeRule
        self.change(name) { guest in
            if guest.isModeAuto { guest.modeMeter.count(change, at: .now, rule: rule) }
        }
    }

    /// - Parameter took: what it took in the guest's mode, and for that mode's sake.
    func measure(_ change: ModeMeter.Change, of name: String, took: Duration) {
        self.change(name) { guest in
            guard guest.isModeAuto, let mode = guest.loadedMode else { return }
            guest.modeMeter.measure(change, in: mode, took: took)
        }
    }

    func measureDetach(of name: String, _ devices: Int, since began: ContinuousClock.Instant) {
        guard devices > 0 else { return }
        measure(.detach, of: name, took: (ContinuousClock.now - began) / devices)
    }

    // MARK: - Moving

    /// M5: a guest that has no device gets its better mode at once.
    func moveModeIfIdle(_ name: String) {
        guard phase == .running, let guest = guestRegistry[name], guest.state == .loaded, guest.isModeAuto,
            let current = guest.autoMode, guest.loadedMode == current, hasNothing(name),
            guest.modeMeter.advice(for: current, at: .now, rule: modeRule).mode != current
        else { return }
        change(name) { $0.isMoving = true }
        _ = beginUnload(name, .idle, because: .mode)
    }
}
