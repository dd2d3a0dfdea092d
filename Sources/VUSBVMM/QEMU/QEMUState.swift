// SPDX-License-Identifier: Apache-2.0

/// What QEMU tells about its VM, made into what happens to a guest.
///
/// Kept apart from the connection, so that every order of events can be tried. QEMU.md has the table.
struct QEMUState: Equatable {
    enum Life: Equatable {
        /// Nobody has said anything: no connection.
        case unreachable
        /// The machine has not run since it was found or reset; it hasn't been told as started.
        case fresh
        /// Told as started.
        case begun
        /// Told as off or panicked. Only a reset brings it back to life within the same QEMU.
        case ended
    }

    private(set) var life = Life.unreachable
    /// Whether its processors run.
    private(set) var isRunning = false

    var state: VMMGuest.State {
        switch life {
        case .unreachable, .ended: .off
        case .fresh, .begun: isRunning ? .running : .stopped
        }
    }

    /// The connection stands.
    /// - Parameter status: what `query-status` says.
    mutating func connected(status: String) -> VMMEvent.Kind? {
        isRunning = status == "running"
        switch status {
        // QEMU outlives its VM with -no-shutdown or -action panic=pause: nothing that a guest could lose.
        case "shutdown", "guest-panicked": life = .ended
        case "running": life = .fresh
        // What a machine is made of must not change while its state comes in.
        case "inmigrate": life = .fresh
        default:
            life = .fresh
            return .stopped
        }
        return startIfRunning()
    }

    /// The connection has ended: the VM is gone, or can't be told from one that is.
    mutating func lost() -> VMMEvent.Kind? {
        let wasThere = life == .fresh || life == .begun
        self = QEMUState()
        return wasThere ? .off : nil
    }

    mutating func take(_ event: QMPEvent) -> VMMEvent.Kind? {
        switch event.name {
        case "RESUME", "WAKEUP": return resumed()
        case "STOP", "SUSPEND": return stopped()
        case "SHUTDOWN": return end(.off)
        case "GUEST_PANICKED": return end(.panicked)
        case "RESET": return reset()
        // POWERDOWN is a wish that the guest may ignore; the others don't concern a guest's life.
        default: return nil
        }
    }

    private mutating func startIfRunning() -> VMMEvent.Kind? {
        guard life == .fresh, isRunning else { return nil }
        life = .begun
        return .started
    }

    private mutating func resumed() -> VMMEvent.Kind? {
        guard !isRunning else { return nil }
        isRunning = true
        return life == .begun ? .resumed : startIfRunning()
    }

    private mutating func stopped() -> VMMEvent.Kind? {
        guard isRunning else { return nil }
        isRunning = false
        return life == .begun ? .stopped : nil
    }

    private mutating func end(_ kind: VMMEvent.Kind) -> VMMEvent.Kind? {
        let wasThere = life == .fresh || life == .begun
        life = .ended
        return wasThere ? kind : nil
    }

    private mutating func reset() -> VMMEvent.Kind? {
        switch life {
        case .begun: return .reset
        case .unreachable, .fresh: return nil
        case .ended:
            life = .fresh
            return startIfRunning()
        }
    }
}
