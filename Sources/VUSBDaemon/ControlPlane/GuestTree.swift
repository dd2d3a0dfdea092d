// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore
internal import VUSBFileSystem
internal import VUSBVMM

/// What the control plane shows of itself under /vusb: `NodeTree`, or a test's record of it. None of its methods
/// blocks or calls back; those that wait for a guest are `async` and bounded.
protocol GuestTree: Sendable {
    func setHostDevice(_ record: DeviceRecord, state: String, guest: String?)
    func removeHostDevice(_ id: DeviceID)
    func addGuest(_ name: String, access: GuestAccess)
    func removeGuest(_ name: String)
    func setGuestState(_ name: String, _ state: String)
    func setGuestPublished(_ name: String, _ isPublished: Bool, heartbeat: Bool)
    func lastHeartbeat(of guest: String) -> ContinuousClock.Instant?
    @discardableResult func tellNextBeat(of guest: String) -> Bool
    func heartbeatEvents() -> AsyncStream<HeartbeatEvent>
    func appendEvent(to guest: String, line: String)
    func attach(_ attachment: Attachment)
    func detach(path: String, from guest: String)
    func openHandles(path: String, of guest: String) -> Int
    func arrival(path: String, of guest: String) -> [Uevent]
    func departure(path: String, of guest: String) -> [Uevent]

    // The channel to a guest's module: Channel.md.
    func openChannel(of guest: String)
    func closeChannel(of guest: String)
    func channelStatus(of guest: String) -> HCDChannelStatus?
    func channelEvents() -> AsyncStream<HCDChannelEvent>
    func quiesce(path: String?, of guest: String, for limit: Duration) async -> Bool
    func resume(path: String?, of guest: String)
    func withdraw(path: String, from guest: String, orderly: Bool, for limit: Duration) async -> Bool
}

extension NodeTree: GuestTree {
    func setHostDevice(_ record: DeviceRecord, state: String, guest: String?) {
        setHostDevice(HostDeviceEntry(record: record, state: state, guest: guest))
    }

    func attach(_ attachment: Attachment) {
        let entry = AttachmentEntry(
            path: attachment.path,
            busNumber: attachment.slot.busNumber,
            deviceNumber: attachment.slot.deviceNumber,
            minor: attachment.slot.minor,
            node: attachment.node?.number,
            record: attachment.record,
            device: attachment.device,
            isServedElsewhere: attachment.mode != .files
        )
        attach(entry, to: attachment.guest)
    }
}
