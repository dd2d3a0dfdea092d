// SPDX-License-Identifier: Apache-2.0

import VUSBControl

/// Stands for the daemon: devices, guests and operations that are only numbers.
///
/// Concurrency model: an actor; what waits for news is kept as continuations and resumed by each change.
actor FakeService: ControlService {
    private(set) var plugged: [String: DeviceInfo] = [:]
    private var declared: [String: GuestInfo] = [:]
    private var claimed: [ClaimInfo] = []
    private var imported: [ImportInfo] = []
    private var running: [Int: OperationInfo] = [:]
    private var log: [EventInfo] = []
    private var listeners: [Int: AsyncStream<EventInfo>.Continuation] = [:]
    private var listenerCount = 0
    private var waiters: [Int: CheckedContinuation<Void, Never>] = [:]
    private var waiterCount = 0
    /// Tests that wait for listeners or waiters to come and go.
    private var watchers: [CheckedContinuation<Void, Never>] = []
    private(set) var typed: [String] = []
    private(set) var refusals: [String] = []
    private(set) var releases: [ReleaseRequest] = []
    private(set) var loads: [LoadRequest] = []
    /// Operations don't end by themselves.
    private var holdsOperations = false
    /// What attach says.
    private var attachProblem: Problem?

    init(devices: [DeviceInfo] = []) {
        for device in devices { plugged[device.id] = device }
    }

    static func device(
        _ id: String, vendor: String = "0525", product: String = "a4a0", serial: String? = nil
    ) -> DeviceInfo {
        DeviceInfo(
            id: id, source: "emulated", state: .available, idVendor: vendor, idProduct: product, serial: serial,
            manufacturer: "vusb", product: "Zero", speed: "high", deviceClass: "00", interfaces: ["ff/00/00"])
    }

    /// What a guest named `holder` has from the beginning.
    static let attachment = AttachmentInfo(
        device: "1-2.3", guest: "holder", path: "1-1", busNumber: 1, deviceNumber: 1, major: 189, minor: 0,
        mode: "files", state: "attached", urbsInFlight: 1, urbs: 5, failedURBs: 0, bytesIn: 512, bytesOut: 0,
        busy: ["somebody holds it: backup", "1 URB in flight"])

    static let modules = [
        ModuleInfo(
            kernelRelease: "6.1.0-56-amd64", vermagic: "6.1.0-56-amd64 SMP preempt mod_unload modversions",
            version: "0.1", directory: "/srv/modules/a"),
        ModuleInfo(
            kernelRelease: "", vermagic: "", version: "", directory: "/srv/modules/b",
            fault: "vusb_hcd.ko isn't a module"),
    ]

    // MARK: - For tests

    func hold(_ holds: Bool = true) { holdsOperations = holds }
    /// `holder` has it.
    func give(_ device: String) { plugged[device]?.attachment = Self.attachment }
    func refuseAttach(_ problem: Problem?) { attachProblem = problem }
    var listening: Int { listeners.count }
    var waiting: Int { waiters.count }

    func addStep(_ name: String, to id: Int) {
        guard var operation = running[id] else { return }
        operation.steps.append(OperationInfo.Step(name: name, atMilliseconds: Double(operation.steps.count)))
        running[id] = operation
        wake()
    }

    func end(_ id: Int, _ state: OperationInfo.State, _ error: Problem? = nil) {
        running[id]?.state = state
        running[id]?.error = error
        wake()
    }

    func happen(_ type: String, device: String? = nil, detail: String? = nil) {
        let event = EventInfo(
            sequence: UInt64(log.count + 1), time: 1_767_225_600, type: type, device: device, detail: detail)
        log.append(event)
        for listener in listeners.values { listener.yield(event) }
    }

    /// Returns once that many clients listen to events.
    func untilListening(_ count: Int) async { while listeners.count != count { await change() } }

    /// Returns once that many clients wait for an operation.
    func untilWaiting(_ count: Int) async { while waiters.count != count { await change() } }

    func endEvents() {
        for listener in listeners.values { listener.finish() }
    }

    // MARK: - ControlService

    func status() -> DaemonStatus {
        DaemonStatus(
            version: "1.2.3", pid: 42, mount: "/vusb", uptimeSeconds: 3723.5, guests: declared.count,
            devices: plugged.count, attachments: 0, urbsInFlight: 0)
    }

    func devices() -> [DeviceInfo] { plugged.values.sorted { $0.id < $1.id } }

    func device(_ name: String) throws(Problem) -> DeviceInfo {
        if let device = plugged[name] { return device }
        let fitting = devices().filter { device in
            let pair = "\(device.idVendor):\(device.idProduct)"
            return name == pair || device.serial.map { name == "\(pair):\($0)" } ?? false
        }
        guard let first = fitting.first else {
            throw Problem(.notFound, "no device '\(name)'", remedy: "see 'vusbctl devices'")
        }
        guard fitting.count == 1 else {
            throw Problem(.ambiguous, "'\(name)' fits \(fitting.count) devices", candidates: fitting.map(\.id))
        }
        return first
    }

    func emulate(_ request: EmulateRequest) throws(Problem) -> DeviceInfo {
        guard request.specification.hasPrefix("zero") else {
            throw Problem(.notFound, "no emulation '\(request.specification)'", remedy: "use zero")
        }
        let device = Self.device("emulated:zero-\(plugged.count + 1)")
        plugged[device.id] = device
        happen("device-arrived", device: device.id)
        return device
    }

    func unplug(_ device: String) throws(Problem) {
        plugged[try self.device(device).id] = nil
    }

    func type(_ request: TypeRequest, on device: String) throws(Problem) {
        _ = try self.device(device)
        typed += [request.text, request.keys?.joined(separator: ",")].compactMap { $0 }
    }

    func guests() -> [GuestInfo] { declared.values.sorted { $0.name < $1.name } }

    func guest(_ name: String) throws(Problem) -> GuestInfo {
        guard let guest = declared[name] else { throw Problem(.notFound, "no guest '\(name)'") }
        return guest
    }

    func addGuest(_ specification: GuestSpec) throws(Problem) -> GuestInfo {
        guard declared[specification.name] == nil else {
            throw Problem(.conflict, "guest '\(specification.name)' exists already")
        }
        let isHolder = specification.name == "holder"
        let channel = ChannelInfo(state: "open", peer: "vusb_hcd 0.1", oneAtATime: true, urbsInFlight: 2)
        let guest = GuestInfo(
            name: specification.name, connector: specification.connector ?? "local",
            mode: specification.mode ?? "auto", loadedMode: isHolder ? "module" : nil,
            policy: specification.policy ?? "manual", qmp: specification.qmp, agent: specification.agent,
            share: specification.share, channel: isHolder ? channel : nil, state: isHolder ? .loaded : .unloaded,
            silent: isHolder, owner: 0, group: 0, fileMode: specification.fileMode ?? "0600",
            devices: specification.devices ?? [],
            declaredBy: "control", attachments: isHolder ? [Self.attachment] : [])
        declared[guest.name] = guest
        return guest
    }

    func removeGuest(_ name: String) throws(Problem) { declared[try guest(name).name] = nil }

    func modules() -> [ModuleInfo] { Self.modules }

    func load(_ guest: String, _ request: LoadRequest) throws(Problem) -> OperationInfo {
        loads.append(request)
        return begin("load", guest: try self.guest(guest).name, device: nil)
    }

    func unload(_ guest: String, _ request: ReleaseRequest) throws(Problem) -> OperationInfo {
        releases.append(request)
        return begin("unload", guest: try self.guest(guest).name, device: nil)
    }

    func attach(_ device: String, _ request: AttachRequest) throws(Problem) -> OperationInfo {
        if let attachProblem { throw attachProblem }
        return begin("attach", guest: try guest(request.guest).name, device: try self.device(device).id)
    }

    func detach(_ device: String, _ request: ReleaseRequest) throws(Problem) -> OperationInfo {
        releases.append(request)
        return begin("detach", guest: nil, device: try self.device(device).id)
    }

    func switchDevice(_ device: String, _ request: SwitchRequest) throws(Problem) -> OperationInfo {
        begin("switch", guest: try guest(request.guest).name, device: try self.device(device).id)
    }

    func requestDevice(_ device: String, _ request: AttachRequest) throws(Problem) -> OperationInfo {
        begin("request", guest: try guest(request.guest).name, device: try self.device(device).id)
    }

    func hold(_ device: String, _ request: HoldRequest) throws(Problem) -> DeviceInfo {
        let id = try self.device(device).id
        plugged[id]?.hold = HoldInfo(until: request.seconds ?? 600, reason: request.reason)
        return try self.device(id)
    }

    func endHold(_ device: String) throws(Problem) { plugged[try self.device(device).id]?.hold = nil }

    func noteRefusal(_ text: String) { refusals.append(text) }

    func trust(_ device: String) throws(Problem) -> DeviceInfo { try self.device(device) }

    func claims() -> [ClaimInfo] { claimed }

    func claim(_ name: String) throws(Problem) -> ClaimInfo {
        guard let claim = claimed.first(where: { $0.name == name }) else {
            throw Problem(.notFound, "no claim '\(name)'")
        }
        return claim
    }

    func addClaim(_ specification: ClaimSpec) throws(Problem) -> ClaimInfo {
        let claim = ClaimInfo(
            name: specification.name, match: specification.match, except: specification.except ?? [],
            guests: specification.guests, force: specification.force ?? false,
            failBack: specification.failBack ?? .never, declaredBy: "control", devices: [])
        claimed.append(claim)
        return claim
    }

    func removeClaim(_ name: String) throws(Problem) {
        let claim = try claim(name)
        claimed.removeAll { $0.name == claim.name }
    }

    func explainClaims(on device: String) throws(Problem) -> ClaimExplanation {
        ClaimExplanation(
            device: try self.device(device).id, holder: "holder", heir: "vm1", row: "C2", reason: "claim a fits",
            claims: [
                ClaimExplanation.Verdict(claim: "a", fits: true, decides: true),
                ClaimExplanation.Verdict(claim: "b", fits: false, decides: false, reason: "class=08 doesn't fit"),
            ])
    }

    func imports() -> [ImportInfo] { imported }

    func importedDevice(_ id: String) throws(Problem) -> ImportInfo {
        guard let info = imported.first(where: { $0.id == id }) else { throw Problem(.notFound, "no import '\(id)'") }
        return info
    }

    func addImport(_ request: ImportRequest) throws(Problem) -> OperationInfo {
        let id = "ip-" + (request.name ?? "\(request.server)-\(request.busid)")
        let isKept = request.keepTrying == true
        imported.append(
            ImportInfo(
                id: id, server: request.server, busid: request.busid, state: isKept ? .waiting : .imported,
                reason: isKept ? "connection refused" : nil, since: 1_767_225_600, attempts: isKept ? 1 : 0,
                retrySeconds: isKept ? 0.5 : nil, declaredBy: "control"))
        return begin("import", guest: nil, device: id)
    }

    func forgetImport(_ id: String, _ request: ReleaseRequest) throws(Problem) -> OperationInfo {
        releases.append(request)
        let info = try importedDevice(id)
        imported.removeAll { $0.id == info.id }
        return begin("forget", guest: nil, device: id)
    }

    func offers(of server: String) throws(Problem) -> [OfferInfo] {
        guard server != "silent" else { throw Problem(.timedOut, "'silent' has not answered in time") }
        return [
            OfferInfo(
                busid: "1-1", idVendor: "0525", idProduct: "a4a0", speed: "high", deviceClass: "00",
                kind: "vendor's own", imported: imported.first { $0.server == server && $0.busid == "1-1" }?.id,
                importState: .imported),
            OfferInfo(
                busid: "1-2", idVendor: "0951", idProduct: "1666", speed: "super", deviceClass: "08",
                name: "DataTraveler",
                kind: "mass storage", imported: "ip-b", importState: .waiting, reason: "another has it"),
            OfferInfo(busid: "../1", fault: "it's wrong"),
        ]
    }

    func focusSets() -> [FocusInfo] {
        [
            FocusInfo(
                name: "desk", devices: ["emu-keyboard"], guests: ["demo", "holder"],
                hotKey: "scrolllock,scrolllock,digit", follows: false, present: ["emulated:keyboard-1"],
                focused: "holder")
        ]
    }

    func focus(_ request: FocusRequest) throws(Problem) -> OperationInfo {
        begin("focus", guest: try guest(request.guest).name, device: nil)
    }

    func operations() -> [OperationInfo] { running.values.sorted { $0.id < $1.id } }

    func operation(_ id: Int, waitSeconds: Double, afterSteps: Int?) async throws(Problem) -> OperationInfo {
        guard var operation = running[id] else { throw Problem(.notFound, "no operation \(id)") }
        guard waitSeconds > 0 else { return operation }
        let deadline = ContinuousClock.now + .seconds(waitSeconds)
        while operation.state == .running, operation.steps.count <= afterSteps ?? .max, !Task.isCancelled,
            ContinuousClock.now < deadline
        {
            await change(before: deadline)
            operation = running[id] ?? operation
        }
        return operation
    }

    func cancelOperation(_ id: Int) throws(Problem) -> OperationInfo {
        guard let operation = running[id] else { throw Problem(.notFound, "no operation \(id)") }
        guard operation.state == .running else { return operation }
        end(id, .cancelled, Problem(.cancelled, "\(operation.kind) was cancelled"))
        return running[id] ?? operation
    }

    func events(after: UInt64?) -> AsyncStream<EventInfo> {
        let (stream, continuation) = AsyncStream<EventInfo>.makeStream()
        if let after { for event in log where event.sequence > after { continuation.yield(event) } }
        listenerCount += 1
        let number = listenerCount
        listeners[number] = continuation
        changed()
        continuation.onTermination = { _ in Task { await self.forget(listener: number) } }
        return stream
    }

    func doctor() -> [Finding] { [Finding(check: "fake", level: .ok, summary: "all is well")] }

    // MARK: -

    private func begin(_ kind: String, guest: String?, device: String?) -> OperationInfo {
        let id = running.count + 1
        var operation = OperationInfo(
            id: id, kind: kind, guest: guest, device: device, state: .running,
            steps: [OperationInfo.Step(name: "begin", atMilliseconds: 0)])
        if !holdsOperations {
            operation.steps.append(OperationInfo.Step(name: "end", atMilliseconds: 1.25))
            operation.state = .succeeded
        }
        running[id] = operation
        return operation
    }

    private func forget(listener: Int) {
        listeners[listener] = nil
        changed()
    }

    private func change() async { await withCheckedContinuation { watchers.append($0) } }

    private func changed() {
        let all = watchers
        watchers = []
        for watcher in all { watcher.resume() }
    }

    private func change(before deadline: ContinuousClock.Instant) async {
        waiterCount += 1
        let number = waiterCount
        let timer = Task {
            try await Task.sleep(until: deadline, clock: .continuous)
            self.resume(number)
        }
        await withTaskCancellationHandler {
            await withCheckedContinuation {
                waiters[number] = $0
                changed()
            }
        } onCancel: {
            Task { await self.resume(number) }
        }
        timer.cancel()
    }

    private func resume(_ number: Int) {
        waiters.removeValue(forKey: number)?.resume()
        changed()
    }

    private func wake() { for number in waiters.keys { resume(number) } }
}
