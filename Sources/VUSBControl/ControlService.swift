// SPDX-License-Identifier: Apache-2.0

/// What the control server serves: implemented by the daemon. Each throws the problem that the client gets.
///
/// DEVICE arguments are as people write them: a device id, `VID:PID` or `VID:PID:SERIAL`; an ambiguous one is refused
/// with the candidates. Long operations return at once with a running `OperationInfo`.
package protocol ControlService: Sendable {
    func status() async -> DaemonStatus

    func devices() async -> [DeviceInfo]
    func device(_ name: String) async throws(Problem) -> DeviceInfo
    /// Plugs an emulated device in.
    func emulate(_ request: EmulateRequest) async throws(Problem) -> DeviceInfo
    /// Unplugs an emulated device, as abruptly as a hand does.
    func unplug(_ device: String) async throws(Problem)
    /// Types text on an emulated keyboard.
    func type(_ request: TypeRequest, on device: String) async throws(Problem)

    func guests() async -> [GuestInfo]
    func guest(_ name: String) async throws(Problem) -> GuestInfo
    func addGuest(_ specification: GuestSpec) async throws(Problem) -> GuestInfo
    func removeGuest(_ name: String) async throws(Problem)

    /// In the order in which they're looked at.
    func claims() async -> [ClaimInfo]
    func claim(_ name: String) async throws(Problem) -> ClaimInfo
    func addClaim(_ specification: ClaimSpec) async throws(Problem) -> ClaimInfo
    func removeClaim(_ name: String) async throws(Problem)
    /// Who is to have the device, and what each claim makes of it.
    func explainClaims(on device: String) async throws(Problem) -> ClaimExplanation

    /// Devices of other USB/IP servers.
    func imports() async -> [ImportInfo]
    /// By the id of its device.
    func importedDevice(_ id: String) async throws(Problem) -> ImportInfo
    /// Waits for the first try.
    func addImport(_ request: ImportRequest) async throws(Problem) -> OperationInfo
    /// Takes the device from who has it, and ends its import.
    func forgetImport(_ id: String, _ request: ReleaseRequest) async throws(Problem) -> OperationInfo
    /// What a server lends.
    func offers(of server: String) async throws(Problem) -> [OfferInfo]

    /// Devices that go from guest to guest together.
    func focusSets() async -> [FocusInfo]
    /// Gives all devices of a set to one guest, or none.
    func focus(_ request: FocusRequest) async throws(Problem) -> OperationInfo

    /// The builds of the USB module that guests can be given, and those that can't be used, with why.
    func modules() async -> [ModuleInfo]

    func load(_ guest: String, _ request: LoadRequest) async throws(Problem) -> OperationInfo
    func unload(_ guest: String, _ request: ReleaseRequest) async throws(Problem) -> OperationInfo
    func attach(_ device: String, _ request: AttachRequest) async throws(Problem) -> OperationInfo
    func detach(_ device: String, _ request: ReleaseRequest) async throws(Problem) -> OperationInfo
    /// Takes a device from who has it, once that doesn't use it, and gives it to another guest.
    func switchDevice(_ device: String, _ request: SwitchRequest) async throws(Problem) -> OperationInfo
    /// Waits until the device is free, and asks who has it.
    func requestDevice(_ device: String, _ request: AttachRequest) async throws(Problem) -> OperationInfo
    func hold(_ device: String, _ request: HoldRequest) async throws(Problem) -> DeviceInfo
    func endHold(_ device: String) async throws(Problem)
    /// Ends the quarantine of a device that misbehaved.
    func trust(_ device: String) async throws(Problem) -> DeviceInfo

    func operations() async -> [OperationInfo]
    /// Returns when the operation has ended or changed by a step beyond `afterSteps`, at the latest after `wait`
    /// seconds.
    func operation(_ id: Int, waitSeconds: Double, afterSteps: Int?) async throws(Problem) -> OperationInfo
    /// Asks a running operation to stop; it ends as `cancelled`, with all as it was before.
    func cancelOperation(_ id: Int) async throws(Problem) -> OperationInfo

    /// Events as they happen. With `after`, first those that are still known with a higher sequence number.
    func events(after: UInt64?) async -> AsyncStream<EventInfo>

    /// Somebody was refused: who, what, and by which rule.
    func noteRefusal(_ text: String) async

    func doctor() async -> [Finding]
}
