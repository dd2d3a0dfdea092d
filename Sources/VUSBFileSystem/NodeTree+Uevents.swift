// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
package import VUSBCore

/// What a guest's programs have to be told of devices that come and go: SysfsView.md, rows U1 to U5.
extension NodeTree {
    /// To be asked for once the device is attached. Empty where it isn't, or the guest isn't published.
    package func arrival(path: String, of guest: String) -> [Uevent] {
        change(path: path, of: guest).flatMap { device in
            [device.uevent(.add)] + device.interfaces.map { $0.uevent(.add) }
                + device.interfaces.filter(\.isBound).map { $0.uevent(.bind) } + [device.uevent(.bind)]
        }
    }

    /// To be asked for while the device is still attached, and sent once it isn't any more.
    package func departure(path: String, of guest: String) -> [Uevent] {
        change(path: path, of: guest).reversed().flatMap { device in
            device.interfaces.flatMap { ($0.isBound ? [$0.uevent(.unbind)] : []) + [$0.uevent(.remove)] }
                + [device.uevent(.unbind), device.uevent(.remove)]
        }
    }

    /// The device, and before it its bus's root hub where that comes and goes with it.
    private func change(path: String, of guest: String) -> [SysfsDevice] {
        state.withLock { state in
            guard let guest = state.guest(named: guest), guest.isPublished,
                let attachment = guest.attachment(path: path[...])
            else { return [] }
            let device = SysfsDevice(attachment, nodes: state.characterNodes)
            let isAlone = guest.attachments.values.count { $0.entry.busNumber == device.busNumber } == 1
            guard isAlone, device.busNumber != 1 else { return [device] }
            return [SysfsDevice(rootHubOf: device.busNumber, guest: guest.name), device]
        }
    }
}

extension SysfsDevice {
    func uevent(_ action: Uevent.Action) -> Uevent {
        Uevent(action, devicePath: "/" + path, properties: properties)
    }
}

extension SysfsInterface {
    func uevent(_ action: Uevent.Action) -> Uevent {
        Uevent(action, devicePath: "/" + path, properties: properties)
    }
}

extension Uevent {
    /// The kernel says `add` before a driver is bound, `unbind` and `remove` when it no longer is.
    fileprivate init(_ action: Action, devicePath: String, properties: [Property]) {
        self.init(
            action, devicePath: devicePath, subsystem: "usb",
            properties: properties.filter { $0.key != "DRIVER" || action == .bind })
    }
}
