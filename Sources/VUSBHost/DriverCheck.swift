// SPDX-License-Identifier: Apache-2.0

import VUSBCore

/// Whether the host can do without the device: asked before its drivers are detached.
struct DriverCheck {
    let paths: HostPaths

    /// - Throws: `busy`, naming the device, who has it and what to do; `unsupported`.
    /// - Parameter isForced: somebody has said that it's to be lent whatever the host does with it.
    func check(_ device: SysfsDevice, _ interfaces: [SysfsDevice.Interface], isForced: Bool) throws(USBError) {
        if let driver = device.driver, driver != "usb" {
            throw USBError(
                .busy,
                "device \(device.id) is held by \(driver)",
                remedy: driver == "usbip-host" ? "usbip unbind --busid=\(device.id)" : "unbind it from \(driver)"
            )
        }
        for interface in interfaces {
            try check(device.id, interface)
            if !isForced { try checkUse(device.id, interface) }
        }
    }

    private func check(_ id: DeviceID, _ interface: SysfsDevice.Interface) throws(USBError) {
        guard interface.number < HostClaim.interfaceLimit else {
            throw USBError(.unsupported, "device \(id) has an interface \(interface.number); libusb takes 0 to 31")
        }
    }

    private func checkUse(_ id: DeviceID, _ interface: SysfsDevice.Interface) throws(USBError) {
        guard let driver = interface.driver else { return }
        let held = "device \(id): interface \(interface.number) held by \(driver)"
        let force =
            "lend it all the same by a claim with force: vusbctl claim add NAME --match port=\(id) --guest GUEST --force, before any other that fits"
        if let use = BlockDeviceUse(paths: paths).use(below: interface.directory) {
            throw USBError(
                .busy, "\(held) is in use: \(use)", remedy: "unmount it (umount, swapoff) and try again; or \(force)")
        }
        if let input = ConsoleKeyboard(paths: paths).input(below: interface.directory) {
            throw USBError(.busy, "\(held) is a keyboard of this host's console (\(input))", remedy: force)
        }
    }

    static func claimError(
        _ id: DeviceID,
        _ failure: HostClaim.Failure,
        _ interfaces: [SysfsDevice.Interface]
    ) -> USBError {
        if failure.code == LibUSBCode.noDevice { return USBError(.gone, "device \(id) was unplugged") }
        let driver = interfaces.first { $0.number == failure.interface }?.driver
        let holder = driver.map { "held by \($0)" } ?? "held by another program"
        return LibUSBCode.error(
            failure.code,
            "device \(id): interface \(failure.interface), \(holder), can't be had",
            remedy: driver == nil || driver == "usbfs"
                ? "end the program that has it open (fuser -v /dev/bus/usb/*/*)"
                : "unbind it from \(driver ?? "its driver")"
        )
    }
}
