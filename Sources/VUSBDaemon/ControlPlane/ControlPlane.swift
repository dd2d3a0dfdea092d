// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import Logging
internal import VUSBControl
internal import VUSBCore
internal import VUSBIP
internal import VUSBVMM

/// Decides who has which device. Devices, guests, operations and events in one actor, so that who holds what changes
/// in one step: a device never has two owners.
///
/// Concurrency model: an actor; nothing of the data path runs here. A method that awaits has first written down what
/// it's about to do (`DeviceEntry.holder`, `GuestEntry.state`), which makes others keep off, and looks at everything
/// anew afterwards: the device may have been unplugged and the operation cancelled meanwhile.
actor ControlPlane {
    /// What doesn't change while the daemon runs.
    struct Facts: Sendable {
        var version: String
        var pid: Int
        var mount: String
        var socket: String
        /// Where images of disks emulated through the control interface must be.
        var imageDirectory: String
    }

    enum Phase: Sendable, Equatable {
        case running
        /// Nothing new is begun, and the saved state stays as it is: it's what comes back.
        case stopping
    }

    var deviceRegistry = DeviceRegistry()
    var guestRegistry = GuestRegistry()
    var claimTable = ClaimTable()
    var importTable = ImportTable()
    var deviceQueue = DeviceQueue()
    /// Of vusb.yaml.
    var focusTable: [FocusSet] = []
    /// By port: how often devices have gone there.
    var storms: [DeviceID: PlugStorm] = [:]
    /// By the set's name: the operation that moves it.
    var focusing: [String: Int] = [:]
    /// By the set's name: what the last chord began.
    var chordOperations: [String: Int] = [:]
    var buses = BusTable()
    var operationLog = OperationLog()
    var eventRing = EventRing()
    var phase = Phase.running
    var arrivalWaiters: [DeviceID: [CheckedContinuation<Void, Never>]] = [:]
    var departureWaiters: [DeviceID: [CheckedContinuation<Void, Never>]] = [:]
    var sources: [String: any DeviceSource] = [:]
    var failedSources: [String: USBError] = [:]
    var pumps: [Task<Void, Never>] = []
    var stopDrain: Task<[DeviceID: Int], Never>?
    var guestCalls = GuestCalls()
    /// What is at work in guests' kernels, also where nobody waits for it any more.
    var guestWork: [String: Task<Void, Never>] = [:]
    /// Opened by a hello, for the load that waits for it.
    var helloGates: [String: Gate] = [:]
    /// Opened by whatever is heard of a guest's machine.
    var machineGates: [String: Gate] = [:]
    var channelNews: [String: EventAllowance] = [:]
    /// Of guests with character nodes in a network of their own.
    var tellers: [String: any UeventTelling] = [:]
    /// Until a guest that is loaded on demand, and has no device any more, is unloaded.
    var idleTimers: [String: Task<Void, Never>] = [:]
    private var revision: UInt64 = 0

    let tree: any GuestTree
    let emulator: (any DeviceEmulator)?
    let connectors: [String: any VMMConnector]
    let store: any StateKeeper
    let pool: BufferPool
    let tools: ModuleTools
    let healthLimits: HealthLimits
    let modeRule: ModeMeter.Rule
    let facts: Facts
    let logger: Logger
    let began = ContinuousClock.now
    let exports: any GuestExporting
    let redirect: (any RedirectServing)?
    let nodes: (any NodeServing)?
    let usbip: (any USBIPServing)?
    let usbipClients = USBIPClients()
    let importer: (any DeviceImporter)?
    /// The daemon's own checks, besides those of the control plane.
    let checks: @Sendable () async -> [Finding]

    init(
        tree: any GuestTree,
        emulator: (any DeviceEmulator)?,
        connectors: [any VMMConnector],
        store: any StateKeeper,
        surroundings: Surroundings
    ) {
        self.tree = tree
        self.emulator = emulator
        self.connectors = Dictionary(connectors.map { ($0.name, $0) }) { first, _ in first }
        self.store = store
        pool = surroundings.pool
        tools = surroundings.tools
        healthLimits = surroundings.health
        modeRule = surroundings.modeRule
        facts = surroundings.facts
        logger = surroundings.logger
        checks = surroundings.checks
        exports = surroundings.exports
        redirect = surroundings.redirect
        nodes = surroundings.nodes
        usbip = surroundings.usbip
        importer = surroundings.importer
    }

    struct Surroundings: Sendable {
        var pool: BufferPool
        var facts: Facts
        var logger: Logger
        var tools: ModuleTools
        var exports: any GuestExporting
        /// Nil where there is no mode `redirect`.
        var redirect: (any RedirectServing)?
        /// Nil where there are no character nodes.
        var nodes: (any NodeServing)?
        /// Nil where there is no mode `usbip`.
        var usbip: (any USBIPServing)?
        /// Nil where nothing is imported.
        var importer: (any DeviceImporter)?
        var health = HealthLimits.off
        var modeRule = ModeMeter.Rule()
        var checks: @Sendable () async -> [Finding] = { [] }
    }

    // MARK: - Saying what happened

    /// - Parameter guestDetail: what the guest itself reads in the detail's place.
    func emit(
        _ type: EventType, guest: String? = nil, device: DeviceID? = nil, path: String? = nil, detail: String? = nil,
        guestDetail: String? = nil
    ) {
        let time = wallClock()
        let event = eventRing.append { sequence in
            EventInfo(
                sequence: sequence,
                time: time,
                type: type.rawValue,
                guest: guest,
                device: device?.rawValue,
                path: path,
                detail: detail
            )
        }
        log(event)
        guard type.isForGuest, let guest else { return }
        var line = event
        line.device = nil
        line.detail = guestDetail ?? detail
        tree.appendEvent(to: guest, line: JSONLine.encode(line))
    }

    private func log(_ event: EventInfo) {
        guard logger.logLevel <= .info else { return }
        var metadata: Logger.Metadata = [:]
        if let guest = event.guest { metadata["guest"] = "\(guest)" }
        if let device = event.device { metadata["device"] = "\(device)" }
        if let path = event.path { metadata["path"] = "\(path)" }
        if let detail = event.detail { metadata["detail"] = "\(detail)" }
        logger.info("\(event.type)", metadata: metadata)
    }

    /// Seconds since 1970.
    func wallClock() -> Double { Date().timeIntervalSince1970 }

    // MARK: - What is shown and kept

    /// Shows the device under /vusb/devices as it is now.
    func showHost(_ id: DeviceID) {
        guard let entry = deviceRegistry[id], let record = entry.visibleRecord else { return }
        tree.setHostDevice(record, state: entry.state.rawValue, guest: entry.guest)
    }

    func setState(_ state: GuestEntry.State, of guest: String) {
        change(guest) { $0.state = state }
        deviceQueue.tell(guest: guest)
        tree.setGuestState(guest, state.guestText)
        emit(.guestState, guest: guest, detail: state.text, guestDetail: state.guestText)
    }

    /// Changes a guest that may have been removed meanwhile.
    func change(_ guest: String, _ body: (inout GuestEntry) -> Void) {
        guard var entry = guestRegistry[guest] else { return }
        body(&entry)
        guestRegistry[guest] = entry
    }

    /// Returns once what is true now would survive a kill.
    func persist() async {
        guard phase == .running else { return }
        revision += 1
        let state = SavedState(guestRegistry, claimTable, holds: savedHolds, imports: importTable.saved)
        await store.save(state, revision: revision)
    }
}

/// One JSON object a line.
enum JSONLine {
    static func encode(_ event: EventInfo) -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        do {
            return String(decoding: try encoder.encode(event), as: UTF8.self)
        } catch {
            // Strings and numbers always encode; a time that isn't finite can't come from the clock.
            return "{\"sequence\":\(event.sequence),\"type\":\"\(event.type)\"}"
        }
    }
}

/// Runs work that must end whatever happens to the caller: devices are given back also when the operation that has
/// them was cancelled.
func shielded<Value: Sendable>(_ work: @escaping @Sendable () async -> Value) async -> Value {
    await Task { await work() }.value
}
