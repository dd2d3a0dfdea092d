// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
package import VUSBCore

/// Who may use a guest's files.
package struct GuestAccess: Sendable, Equatable {
    package var uid: UInt32
    package var gid: UInt32
    /// Permission bits, such as 0o660. An IN endpoint's file has no write bits, an OUT endpoint's no read bits.
    package var fileMode: UInt16

    package init(uid: UInt32 = 0, gid: UInt32 = 0, fileMode: UInt16 = 0o600) {
        self.uid = uid
        self.gid = gid
        self.fileMode = fileMode & 0o777
    }
}

/// What /vusb/devices/ID shows.
package struct HostDeviceEntry: Sendable {
    let record: DeviceRecord
    let state: String
    let guest: String?

    package init(record: DeviceRecord, state: String, guest: String?) {
        self.record = record
        self.state = state
        self.guest = guest
    }
}

/// A device in a guest's directory.
package struct AttachmentEntry: Sendable {
    /// As the guest sees it, such as `1-1`.
    let path: String
    let busNumber: Int
    let deviceNumber: Int
    /// usbfs's for this bus and device.
    let minor: Int
    /// Of the character node that a front serves for it, once there is one.
    var node: CharacterDeviceNumber?
    let record: DeviceRecord
    let device: VirtualDevice
    /// The guest's own kernel has the device, by another front: its endpoint files can't be opened.
    let isServedElsewhere: Bool

    package init(
        path: String,
        busNumber: Int,
        deviceNumber: Int,
        minor: Int,
        node: CharacterDeviceNumber? = nil,
        record: DeviceRecord,
        device: VirtualDevice,
        isServedElsewhere: Bool = false
    ) {
        self.path = path
        self.busNumber = busNumber
        self.deviceNumber = deviceNumber
        self.minor = minor
        self.node = node
        self.record = record
        self.device = device
        self.isServedElsewhere = isServedElsewhere
    }
}

/// What /vusb shows: the control plane writes it, FUSE's reader threads look it up.
///
/// Concurrency model: all state is behind one `Mutex`, taken by any thread for a look-up or a change and held across
/// no call out, but for questions to a `VirtualDevice`. Lock order: this one, then the device's.
package final class NodeTree: Sendable {
    struct Attachment: Sendable {
        let serial: UInt32
        var entry: AttachmentEntry
        let openFiles: OpenFileCount

        /// The only place that decides which numbers a node carries (SysfsView.md, M1 to M4).
        func numbers(_ nodes: CharacterNodes) -> (major: Int, minor: Int)? {
            if let node = entry.node { return (node.major, node.minor) }
            return nodes == .pointers ? (CharacterDeviceNumber.unservedMajor, entry.minor) : nil
        }

        func view(nodes: CharacterNodes) -> DeviceView {
            let numbers = numbers(nodes)
            return DeviceView(
                record: entry.record,
                configurationValue: entry.device.settings.configurationValue,
                busNumber: entry.busNumber,
                deviceNumber: entry.deviceNumber,
                major: numbers?.major,
                minor: numbers?.minor
            )
        }
    }

    struct Guest: Sendable {
        let serial: UInt32
        let name: String
        var access: GuestAccess
        var state = "unloaded"
        var isPublished = false
        var attachments: [UInt32: Attachment] = [:]
        let events = EventLog()
        /// While its file `hcd` is there.
        var channel: HCDChannel?
        /// While it's loaded.
        var clock: ClockOpeners?
        /// While it's loaded, where that was asked for.
        var heartbeat: Heartbeat?

        func attachment(path: Substring) -> Attachment? { attachments.values.first { $0.entry.path == path } }
    }

    struct HostDevice: Sendable {
        let serial: UInt32
        var entry: HostDeviceEntry

        var view: DeviceView {
            DeviceView(
                record: entry.record,
                configurationValue: nil,
                busNumber: entry.record.busNumber,
                deviceNumber: entry.record.deviceNumber,
                state: entry.state,
                guest: entry.guest
            )
        }
    }

    struct State: Sendable {
        let characterNodes: CharacterNodes
        var hostDevices: [UInt32: HostDevice] = [:]
        var hostSerials: [DeviceID: UInt32] = [:]
        var guests: [UInt32: Guest] = [:]
        var guestSerials: [String: UInt32] = [:]
        private var lastSerial = NodeID.firstSerial - 1

        init(characterNodes: CharacterNodes) { self.characterNodes = characterNodes }

        mutating func nextSerial() -> UInt32 {
            repeat {
                lastSerial = lastSerial == NodeID.maximumSerial ? NodeID.firstSerial : lastSerial + 1
            } while isInUse(lastSerial)
            return lastSerial
        }

        /// Only after sixteen million; until then no number is ever used twice.
        private func isInUse(_ serial: UInt32) -> Bool {
            hostDevices[serial] != nil || guests[serial] != nil
                || guests.values.contains { $0.attachments[serial] != nil }
        }

        func guest(named name: some StringProtocol) -> Guest? {
            guestSerials[String(name)].flatMap { guests[$0] }
        }

        mutating func change(_ name: String, _ body: (inout Guest) -> Void) {
            guard let serial = guestSerials[name], var guest = guests[serial] else { return }
            body(&guest)
            guests[serial] = guest
        }
    }

    let state: Mutex<State>
    let channels = HCDChannels()
    let clock: any FileClock = ClockThread.shared
    let heartbeats = Heartbeats()
    /// Also the mount's: `FileSystemFront` asks for it.
    package let characterNodes: CharacterNodes
    private let isServed: @Sendable (CharacterDeviceNumber) -> Bool

    /// - Parameter isServed: whether the kernel has the number for a device that is served by CUSE. Asked once for each
    ///   number that the tree is told of; one that isn't counts as none.
    package init(
        characterNodes: CharacterNodes = .pointers,
        isServed: @escaping @Sendable (CharacterDeviceNumber) -> Bool = CharacterNodes.isServedByCUSE
    ) {
        self.characterNodes = characterNodes
        self.isServed = isServed
        state = Mutex(State(characterNodes: characterNodes))
    }

    /// Adds the device, or replaces what is known of it.
    package func setHostDevice(_ entry: HostDeviceEntry) {
        state.withLock { state in
            let serial = state.hostSerials[entry.record.id] ?? state.nextSerial()
            state.hostSerials[entry.record.id] = serial
            state.hostDevices[serial] = HostDevice(serial: serial, entry: entry)
        }
    }

    package func removeHostDevice(_ id: DeviceID) {
        state.withLock { state in
            if let serial = state.hostSerials.removeValue(forKey: id) { state.hostDevices[serial] = nil }
        }
    }

    /// The guest's directory appears, with `state` and `events`. A guest that is there only gets the new access.
    package func addGuest(_ name: String, access: GuestAccess) {
        state.withLock { state in
            if state.guestSerials[name] != nil { return state.change(name) { $0.access = access } }
            let serial = state.nextSerial()
            state.guestSerials[name] = serial
            state.guests[serial] = Guest(serial: serial, name: name, access: access)
        }
    }

    package func removeGuest(_ name: String) {
        let removed = state.withLock { state in
            state.guestSerials.removeValue(forKey: name).flatMap { state.guests.removeValue(forKey: $0) }
        }
        removed?.events.finish()
        removed?.channel?.shut()
        removed?.clock?.shut()
        removed?.heartbeat?.shut()
    }

    /// - Parameter text: `unloaded`, `loading`, `loaded`, `draining` or `failed: REASON`.
    package func setGuestState(_ name: String, _ text: String) {
        state.withLock { state in state.change(name) { $0.state = text } }
    }

    /// As below, without a heartbeat.
    package func setGuestPublished(_ name: String, _ isPublished: Bool) {
        setGuestPublished(name, isPublished, heartbeat: false)
    }

    /// `dev/`, `devices/`, `sys/` and `clock` appear at load and vanish at unload; so does `heartbeat`, where it's
    /// asked for. Timers of a `clock` that is open end with it, and so does a `heartbeat` that is (Clock.md).
    /// - Parameter heartbeat: looked at while the guest is loaded only.
    package func setGuestPublished(_ name: String, _ isPublished: Bool, heartbeat: Bool) {
        let (clock, ended) = state.withLock { state -> (ClockOpeners?, Heartbeat?) in
            var ended: (ClockOpeners?, Heartbeat?) = (nil, nil)
            state.change(name) { ended = $0.setPublished(isPublished, heartbeat: heartbeat, heartbeats) }
            return ended
        }
        clock?.shut()
        ended?.shut()
    }

    /// - Parameter line: one JSON object, without a newline.
    package func appendEvent(to guest: String, line: String) {
        let log = state.withLock { $0.guest(named: guest)?.events }
        log?.append(line)
    }

    /// The guest's module is told, where it has one.
    package func attach(_ entry: AttachmentEntry, to guest: String) {
        var entry = entry
        entry.node = entry.node.flatMap { isServed($0) ? $0 : nil }
        let channel = state.withLock { [entry] state -> HCDChannel? in
            let serial = state.nextSerial()
            state.change(guest) {
                $0.attachments[serial] = Attachment(serial: serial, entry: entry, openFiles: OpenFileCount())
            }
            return state.guest(named: guest)?.channel
        }
        channel?.attach(path: entry.path, entry.device)
    }

    /// The device's directory vanishes. Files that are open stay open and answer as the closed device does. The guest's
    /// module is told, unless it has let go of the device already.
    package func detach(path: String, from guest: String) {
        let channel = state.withLock { state -> HCDChannel? in
            state.change(guest) { guest in
                if let found = guest.attachment(path: path[...]) { guest.attachments[found.serial] = nil }
            }
            return state.guest(named: guest)?.channel
        }
        channel?.detach(path: path)
    }

    /// A front serves a character node for the attachment, or (nil) is about to do so no longer.
    /// - Returns: whether that is so now: false where the attachment isn't there, or the number is none of CUSE's.
    @discardableResult
    package func setNode(_ node: CharacterDeviceNumber?, path: String, of guest: String) -> Bool {
        if let node, !isServed(node) { return false }
        return state.withLock { state in
            var isThere = false
            state.change(guest) { guest in
                guard let found = guest.attachment(path: path[...]) else { return }
                guest.attachments[found.serial]?.entry.node = node
                isThere = true
            }
            return isThere
        }
    }

    /// Endpoint files of the attachment that are open now.
    package func openHandles(path: String, of guest: String) -> Int {
        state.withLock { $0.guest(named: guest)?.attachment(path: path[...])?.openFiles.value ?? 0 }
    }
}
