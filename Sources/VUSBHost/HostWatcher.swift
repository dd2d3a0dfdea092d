// SPDX-License-Identifier: Apache-2.0

import Logging
import Synchronization
import VUSBCore

/// Turns the kernel's messages and what sysfs says into events.
///
/// Concurrency model: `handle` is called by one thread at a time, the listening one, or `start`'s where there is no
/// listening. The inventory is in a `Mutex` only to say so; sysfs is read outside of it.
final class HostWatcher: Sendable {
    private let enumerator: SysfsEnumerator
    private let logger: Logger
    private let inventory = Mutex(HostInventory())
    private let send: @Sendable (DeviceEvent) -> Void

    init(paths: HostPaths, logger: Logger, send: @escaping @Sendable (DeviceEvent) -> Void) {
        enumerator = SysfsEnumerator(root: paths.sysfsDevices)
        self.logger = logger
        self.send = send
    }

    /// Reads the whole bus.
    func scan() {
        guard let names = enumerator.names() else {
            logger.notice("this host has no USB: \(enumerator.root) isn't there; try modprobe usbcore")
            return
        }
        let present = Set(names.map { DeviceID($0) })
        let findings = names.compactMap { enumerator.finding(named: $0) }
        emit { $0.replace(with: findings, present: present) }
    }

    func handle(_ event: HostHotplug.Event) {
        switch event {
        case .began: scan()
        case .overrun:
            logger.notice("missed messages about USB devices, looking at all of them")
            scan()
        case .message(let message): handle(message)
        }
    }

    func handle(_ message: UeventMessage) {
        guard message.isUSBDevice, SysfsEnumerator.isDeviceName(message.deviceName) else { return }
        switch message.action {
        case "remove":
            let id = DeviceID(message.deviceName)
            emit { $0.remove(id, bus: message.busNumber, device: message.deviceNumber) }
        case "add":
            // Configured, and so complete, only once the usb driver has it: "bind" tells of that. A device that lies
            // may take its time until then, and is refused at once.
            look(at: message.deviceName, takingUnbound: false)
        case "bind", "change": look(at: message.deviceName)
        default: break
        }
    }

    private func look(at name: String, takingUnbound: Bool = true) {
        guard let finding = enumerator.finding(named: name) else { return }
        if case .device = finding, !takingUnbound, SysfsDevice(finding.id, root: enumerator.root).driver == nil {
            return
        }
        emit { $0.update(finding) }
    }

    private func emit(_ change: (inout HostInventory) -> [DeviceEvent]) {
        for event in inventory.withLock({ change(&$0) }) { send(event) }
    }
}
