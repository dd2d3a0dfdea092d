// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Synchronization
internal import VUSBCore

/// An errno that a caller gets.
struct UsbfsErrno: Error, Equatable {
    let number: Int32
    init(_ number: Int32) { self.number = number }
}

/// Who has things done at a time: the loop.
protocol UsbfsClock: AnyObject, Sendable {
    /// Has `UsbfsSession.checkTime` called at the deadline, or before.
    func wake(_ session: UsbfsSession, at deadline: ContinuousClock.Instant)
}

/// A device as all its openers see it: who they are, and who has claimed which interface.
///
/// Concurrency model: any thread. State is in one `Mutex`, held across no call out; the phase is an `Atomic` that is
/// written with it, so that a session can look at it under its own. Lock order: none is held when another is taken.
final class UsbfsNode: Sendable {
    enum Phase: UInt8 {
        case serving
        /// Requests that would begin something wait.
        case quiet
        /// Nothing begins any more.
        case gone
    }

    /// Where callers see it.
    struct Identity: Sendable {
        var busNumber: Int
        var deviceNumber: Int
        /// Its port, and those of the hubs before it: of `1-2.3` 2 and 3.
        var ports: [UInt8]
    }

    private struct State {
        var sessions: [UInt64: UsbfsSession] = [:]
        var lastSession: UInt64 = 0
        /// By interface number: the session that has it, or 0.
        var claims = Array(repeating: UInt64(0), count: Int(UsbfsABI.interfaceLimit))
    }

    let device: VirtualDevice
    let identity: Identity
    let clock: any UsbfsClock
    let routes: UsbfsRoutes
    private let tell: @Sendable () -> Void
    private let state = Mutex(State())
    private let currentPhase = Atomic(Phase.serving.rawValue)
    private let memory = Atomic(0)

    static let sessionLimit = 1024

    /// - Parameter tell: openers have come or gone. Called on any thread with no lock held.
    init(
        _ device: VirtualDevice, _ identity: Identity, clock: any UsbfsClock, tell: @escaping @Sendable () -> Void
    ) {
        self.device = device
        self.identity = identity
        self.clock = clock
        self.tell = tell
        routes = UsbfsRoutes(device.descriptors)
    }

    var phase: Phase { Phase(rawValue: currentPhase.load(ordering: .acquiring)) ?? .gone }

    /// Whether there is still a device.
    var isConnected: Bool {
        guard phase != .gone else { return false }
        if case .closed = device.admission { return false }
        return true
    }

    // MARK: - Openers

    func open(_ reply: consuming UsbfsReply, isWritable: Bool) {
        guard isConnected else { return reply.error(ENODEV) }
        let process = CallingThread.process(of: reply.caller)
        let session = state.withLock { state -> UsbfsSession? in
            guard state.sessions.count < Self.sessionLimit else { return nil }
            state.lastSession += 1
            let session = UsbfsSession(state.lastSession, self, isWritable: isWritable, process: process)
            state.sessions[session.id] = session
            return session
        }
        guard let session else { return reply.error(ENOMEM) }
        // It may be asked for something before the answer has returned.
        if reply.opened(handle: session.id) {
            // Who ended the device meanwhile may not have seen it.
            if phase == .gone { session.end() }
            tell()
        } else {
            forget(session)
        }
    }

    func session(_ handle: UInt64) -> UsbfsSession? { state.withLock { $0.sessions[handle] } }
    var sessions: [UsbfsSession] { state.withLock { Array($0.sessions.values) } }

    /// Its opener has closed it.
    func forget(_ session: UsbfsSession) {
        state.withLock { state in
            state.sessions[session.id] = nil
            for index in state.claims.indices where state.claims[index] == session.id { state.claims[index] = 0 }
        }
        tell()
    }

    func interrupted(_ request: UInt, of handle: UInt64) { session(handle)?.interrupted(request) }

    // MARK: - Claims

    /// - Returns: whether it is the session's now.
    func claim(_ interface: UInt8, for session: UInt64) -> Bool {
        state.withLock { state in
            guard [0, session].contains(state.claims[Int(interface)]) else { return false }
            state.claims[Int(interface)] = session
            return true
        }
    }

    /// - Returns: whether the session had it.
    func release(_ interface: UInt8, of session: UInt64) -> Bool {
        state.withLock { state in
            guard state.claims[Int(interface)] == session else { return false }
            state.claims[Int(interface)] = 0
            return true
        }
    }

    func owner(of interface: UInt8) -> UInt64 { state.withLock { $0.claims[Int(interface)] } }

    var claimedInterfaces: [(interface: UInt8, session: UInt64)] {
        state.withLock { state in
            state.claims.indices.compactMap { state.claims[$0] == 0 ? nil : (UInt8($0), state.claims[$0]) }
        }
    }

    /// Takes an interface from whoever has it: nobody is left with URBs on it.
    /// - Returns: what ends with that; nil where nobody had it.
    func takeAway(_ interface: UInt8) -> UsbfsEnding? {
        let owner = state.withLock { state -> UsbfsSession? in
            let owner = state.sessions[state.claims[Int(interface)]]
            state.claims[Int(interface)] = 0
            return owner
        }
        return owner?.cancel(on: interface, .shutdown)
    }

    // MARK: - Memory

    func reserve(_ bytes: Int) -> Bool {
        guard memory.add(bytes, ordering: .relaxed).newValue > UsbfsABI.memoryLimit else { return true }
        free(bytes)
        return false
    }

    func free(_ bytes: Int) { memory.subtract(bytes, ordering: .relaxed) }

    var memoryInUse: Int { memory.load(ordering: .relaxed) }

    // MARK: - The control plane

    func quiet() { _ = change(from: .serving, to: .quiet) }

    func resume() {
        if change(from: .quiet, to: .serving) { for session in sessions { session.resume() } }
    }

    /// The device is gone for its openers: what is pending is cancelled, who waits is answered.
    func end() {
        currentPhase.store(Phase.gone.rawValue, ordering: .sequentiallyConsistent)
        for session in sessions { session.end() }
    }

    private func change(from old: Phase, to new: Phase) -> Bool {
        currentPhase.compareExchange(
            expected: old.rawValue, desired: new.rawValue, ordering: .sequentiallyConsistent
        ).exchanged
    }
}

/// Which interface an endpoint belongs to, in any of its settings.
struct UsbfsRoutes: Sendable {
    /// By configuration value, then by the endpoint's index.
    private let rows: [UInt8: [UInt8?]]

    init(_ descriptors: Descriptors) {
        var rows: [UInt8: [UInt8?]] = [:]
        for configuration in descriptors.configurations where rows[configuration.bConfigurationValue] == nil {
            var row: [UInt8?] = Array(repeating: nil, count: 32)
            for interface in configuration.interfaces {
                for endpoint in interface.endpoints where row[endpoint.bEndpointAddress.index] == nil {
                    row[endpoint.bEndpointAddress.index] = interface.bInterfaceNumber.rawValue
                }
            }
            rows[configuration.bConfigurationValue] = row
        }
        self.rows = rows
    }

    func interface(of endpoint: EndpointAddress, configuration: UInt8) -> UInt8? {
        rows[configuration]?[endpoint.index]
    }
}
