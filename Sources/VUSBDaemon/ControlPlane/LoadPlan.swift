// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore
internal import VUSBVMM

/// What a load is to do, and why.
struct LoadPlan: Sendable {
    enum Origin: Sendable {
        /// Somebody asked for it, and reads why it failed.
        case hand
        /// It was loaded before vusbd was started, or the configuration says so.
        case restore
        /// Its machine is back.
        case comeback
        /// Another mode is the better one for it: it was unloaded just for that.
        case move
        /// It's given a device.
        case demand
    }

    var origin: Origin
    var mode: GuestMode
    /// Nobody chose the mode: which is best is looked at when the machine can be asked.
    var isAuto = false
    /// The module is only the better choice: where it can't be had, a controller does.
    var mayHaveController = false
    var process: GuestProcess?
    /// The one that it's loaded for: without it the load fails.
    var device: DeviceID?
    /// Whether that device was given by hand.
    var byHand = false
    /// What was in its kernel before: not this load's to take out.
    var modulesBefore: LoadedModules?
    /// What it was to be loaded in when its machine is back, where it waits for that: it does so further if it's off.
    var awaitedMode: GuestMode?
    /// Whether that was nobody's choice.
    var awaitsAuto = false

    /// Whether a machine that is off is waited for.
    var waitsForMachine: Bool { origin != .hand && process == nil }

    /// Whether a machine that boots is waited for.
    var waitsForBoot: Bool { origin == .restore || origin == .comeback }
}
