// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl
internal import VUSBCore
internal import VUSBFileSystem
internal import VUSBIP
internal import VUSBVMM

/// A guest and all that belongs to it.
struct GuestEntry: Sendable {
    enum State: Sendable, Equatable {
        case unloaded
        case loading(operation: Int)
        case loaded
        case draining(operation: Int)
        case failed(reason: String)
        /// It was loaded and its machine is off: it's loaded again when that is back.
        case waiting

        /// The one that is at work on it.
        var operation: Int? {
            switch self {
            case .loading(let operation), .draining(let operation): operation
            case .unloaded, .loaded, .failed, .waiting: nil
            }
        }

        /// As the control interface and the log say it.
        var text: String {
            switch self {
            case .unloaded: "unloaded"
            case .loading: "loading"
            case .loaded: "loaded"
            case .draining: "draining"
            case .failed(let reason): "failed: " + reason
            case .waiting: "waiting"
            }
        }

        /// As the guest's own files say it: why a load failed may name processes and devices of the host.
        var guestText: String {
            if case .failed = self { "failed: the host couldn't load it" } else { text }
        }

        var info: GuestInfo.State {
            switch self {
            case .unloaded: .unloaded
            case .loading: .loading
            case .loaded: .loaded
            case .draining: .draining
            case .failed: .failed
            case .waiting: .waiting
            }
        }
    }

    enum Declaration: String, Sendable {
        case configuration
        case control
    }

    /// A device that the guest got.
    struct Held: Codable, Sendable, Equatable {
        var device: DeviceIdentity
        /// By somebody's hand, not by its declaration.
        var byHand: Bool
    }

    var definition: GuestDefinition
    /// Of all its devices together.
    let limits: GuestLimits?
    let declaredBy: Declaration
    var state = State.unloaded
    /// What the load that failed last advised.
    var failureRemedy: String?
    var process: GuestProcess?
    /// What it's loaded in, or to be loaded again in; nil while it's neither.
    var loadedMode: GuestMode?
    /// Nobody chose the mode that it's loaded in.
    var isModeAuto = false
    /// What was chosen last where nobody chose, and there was a choice.
    var autoMode: GuestMode?
    /// It's unloaded only to be loaded in another mode.
    var isMoving = false
    /// Which of its modes would be the better one.
    var modeMeter = ModeMeter()
    /// What vusbd brought into its kernel and hasn't taken out yet; outlives an unload that couldn't.
    var modules: LoadedModules?
    /// Its connector watches it.
    var isBound = false
    /// Its machine or process ended since it was last loaded: nobody waits for it or calls into it any more.
    var isGone = false
    /// How its machine is, as its connector said last; nil while nothing is watched.
    var machine: VMMGuest.State?
    /// Since when it's known that nothing was heard of it for longer than it has promised: it's loaded, and has nothing.
    var silentSince: ContinuousClock.Instant?
    var isSilent: Bool { silentSince != nil }
    /// From when on its silence counts, where there is no beat after it.
    var heartbeatSince = ContinuousClock.now
    /// What it worked with when its machine was paused, until it goes on.
    var pausedInUse: Set<DeviceID> = []
    /// It couldn't be asked anything during the unload that is under way.
    var silence: USBError?
    /// Where its own clients connect, in mode `usbip`.
    var listeners: [any USBIPListening] = []
    /// How its devices are attached inside, in mode `usbip`; nil where its clients do that by themselves.
    var attachWay: AttachWay?
    var numbers: GuestNumbers
    /// Of its character nodes, once it has been loaded with them.
    var nodeMajor: Int?
    /// It's to be loaded: what is restored after a restart.
    var keepsLoaded = false
    /// What it has or had since it was loaded: to come back at a replug or restart.
    var held: [Held] = []
    /// Detached by hand although it's their heir: they stay away until they are plugged in anew.
    var released: [DeviceIdentity] = []
    /// Guests that were loaded earlier come first where two want the same device.
    var loadOrder = 0

    init(_ definition: GuestDefinition, declaredBy: Declaration, numbers: GuestNumbers = GuestNumbers()) {
        self.definition = definition
        limits = definition.limits.map { GuestLimits($0) }
        self.declaredBy = declaredBy
        self.numbers = numbers
    }

    func lists(_ record: DeviceRecord) -> Bool { definition.devices.contains { $0.matches(record) } }

    /// The device's place in the declaration; what isn't listed comes last.
    func rank(of record: DeviceRecord) -> Int {
        definition.devices.firstIndex { $0.matches(record) } ?? definition.devices.count
    }

    /// Whether it had the device.
    func misses(_ record: DeviceRecord) -> Bool { held.contains { $0.device.matches(record) } }

    mutating func noteAttached(_ record: DeviceRecord, byHand: Bool) {
        let identity = DeviceIdentity(record)
        let wasByHand = held.contains { $0.byHand && $0.device.matches(identity) }
        held.removeAll { $0.device.matches(identity) }
        held.append(Held(device: identity, byHand: byHand || wasByHand))
        released.removeAll { $0.matches(identity) }
    }

    /// - Parameter isHeir: whether it would be given the device again by itself.
    mutating func noteDetached(_ record: DeviceRecord, isHeir: Bool) {
        let identity = DeviceIdentity(record)
        held.removeAll { $0.device.matches(identity) }
        if isHeir { released.append(identity) }
    }

    /// Another guest got it. When that has done with it, it may come back.
    mutating func noteSwitched(_ record: DeviceRecord) {
        let identity = DeviceIdentity(record)
        held.removeAll { $0.device.matches(identity) }
    }

    mutating func noteUnloaded() {
        state = .unloaded
        process = nil
        machine = nil
        pausedInUse = []
        loadedMode = nil
        keepsLoaded = false
        held = []
        released = []
    }

    /// Whether an `unload` has something to do.
    var isUnloadable: Bool {
        switch state {
        case .loaded, .waiting: true
        case .failed: keepsLoaded
        case .unloaded, .loading, .draining: false
        }
    }

    /// Whether the next device that it's given loads it.
    var isLoadedOnDemand: Bool {
        guard definition.policy == .onDemand else { return false }
        switch state {
        case .unloaded, .failed: return true
        case .loading, .loaded, .draining, .waiting: return false
        }
    }

    /// Whether a load with this mode leaves the choice to vusbd.
    func isAuto(_ asked: String?) -> Bool { (asked ?? definition.modeText) == "auto" && definition.mode == nil }

    /// Whether its devices are given to it through the module in its kernel, and that can be spoken to.
    var hasModule: Bool { loadedMode == .module && !isGone }

    /// Whether it may come back once it's off: a process never does.
    var mayReturn: Bool { process == nil }

    /// - Parameter export: where its exporter is to look, if it has one.
    func info(
        attachments: [AttachmentInfo], channel: HCDChannelStatus?, export: String, rule: ModeMeter.Rule
    ) -> GuestInfo {
        var reason: String?
        if case .failed(let why) = state { reason = why }
        return GuestInfo(
            name: definition.name,
            connector: definition.connector,
            mode: definition.modeText,
            loadedMode: shownMode?.rawValue,
            auto: autoInfo(rule),
            policy: definition.policy.rawValue,
            qmp: definition.specification.qmp,
            agent: definition.specification.agent,
            share: definition.specification.share,
            export: definition.isExported ? export : nil,
            channel: loadedMode == .module ? Self.info(channel ?? HCDChannelStatus(state: .closed)) : nil,
            machine: shownMachine,
            state: state.info,
            reason: reason,
            silent: isSilent,
            owner: Int(definition.access.uid),
            group: Int(definition.access.gid),
            fileMode: definition.fileModeText,
            nodes: definition.hasNodes,
            nodeMajor: definition.hasNodes ? nodeMajor : nil,
            listen: definition.specification.listen ?? [],
            clients: definition.specification.clients ?? [],
            priority: definition.priority,
            devices: definition.devices.map(\.description),
            declaredBy: declaredBy.rawValue,
            attachments: attachments
        )
    }

    private func autoInfo(_ rule: ModeMeter.Rule) -> AutoModeInfo? {
        guard isAuto(nil) || isModeAuto, let autoMode else { return nil }
        let now = ContinuousClock.now
        let advice = modeMeter.advice(for: autoMode, at: now, rule: rule)
        func count(_ change: ModeMeter.Change) -> Int { modeMeter.count(of: change, at: now, rule: rule) }
        return AutoModeInfo(
            mode: autoMode.rawValue, next: advice.mode.rawValue, reason: advice.reason,
            windowSeconds: rule.window.inSeconds, loads: count(.load), unloads: count(.unload),
            attaches: count(.attach), detaches: count(.detach), switches: count(.switch),
            extraSeconds: modeMeter.extraSeconds(at: now, rule: rule))
    }

    private var shownMachine: GuestInfo.Machine? {
        switch machine {
        case .running: .running
        case .stopped: .paused
        case .off: .off
        case .unknown, nil: nil
        }
    }

    private var shownMode: GuestMode? {
        switch state {
        case .loaded, .draining: loadedMode
        case .unloaded, .loading, .failed, .waiting: nil
        }
    }

    private static func info(_ channel: HCDChannelStatus) -> ChannelInfo {
        ChannelInfo(
            state: channel.state.rawValue,
            peer: channel.peer,
            oneAtATime: channel.isOneAtATime,
            urbsInFlight: channel.urbsInFlight
        )
    }
}
