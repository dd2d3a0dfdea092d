// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// What goes wrong with a device that is plugged into a guest or taken from it.
struct PlugError {
    let guest: String
    /// QEMU's id of the device.
    let device: String

    /// A remedy for whatever a guest's controllers can't do.
    private static let anotherController = "add -device qemu-xhci,id=xhci to its command line"

    // MARK: - Where to plug it in

    static func missingController(of guest: String) -> USBError {
        USBError(.unsupported, "guest \(guest) has no USB controller", remedy: anotherController)
    }

    func noController(_ all: [QEMUController], for wish: PlugWish) -> USBError {
        guard !all.isEmpty else { return Self.missingController(of: guest) }
        let names = all.map { "\($0.kind.rawValue) (\(PlainText.line($0.bus)))" }.joined(separator: ", ")
        let kind = wish.wantsStreams ? "a device with streams" : "a device of \(wish.speed.rawValue) speed"
        return USBError(
            .unsupported, "guest \(guest) has no USB controller for \(kind), only \(names)",
            remedy: Self.anotherController)
    }

    func allTaken(_ candidates: [QEMUController], for wish: PlugWish) -> USBError {
        let buses = candidates.map { candidate in
            let count = candidate.isCounted ? "all \(candidate.ports.at(wish.speed).count) ports" : "all ports"
            return "\(count) of bus \(PlainText.line(candidate.bus))"
        }
        let isGrowing = candidates.contains { $0.kind == .xhci }
        return USBError(
            .busy,
            "guest \(guest) has no free port for a device of \(wish.speed.rawValue) speed: "
                + buses.joined(separator: " and ") + " are taken",
            remedy: isGrowing
                ? "detach a device, or give qemu-xhci more ports: p2=15,p3=15"
                : "detach a device, or \(Self.anotherController)")
    }

    // MARK: - What QEMU says

    func refusedDevice(_ refusal: QMPRefusal) -> USBError {
        if refusal.text.contains("is not a valid device model name") {
            return USBError(
                .unsupported, "QEMU of guest \(guest) has no usb-redir",
                remedy: "install QEMU's support for usbredir (package qemu-device-usb-redirect, qemu-hw-usb-redirect "
                    + "or the like) and start the VM again")
        }
        if refusal.text.hasPrefix("Duplicate device ID") { return isPlugged }
        return USBError(.io, "QEMU refuses to plug \(device) into guest \(guest): \(refusal.text)")
    }

    func refusedChardev(_ refusal: QMPRefusal, _ socketPath: String) -> USBError {
        if refusal.text.hasSuffix("already exists") { return isPlugged }
        guard refusal.text.contains("Failed to connect") else {
            return USBError(.io, "QEMU refuses the chardev \(device) of guest \(guest): \(refusal.text)")
        }
        let code: USBError.Code =
            if refusal.text.hasSuffix("Permission denied") {
                .accessDenied
            } else if refusal.text.hasSuffix("No such file or directory") {
                .notFound
            } else {
                .io
            }
        return USBError(
            code, "QEMU of guest \(guest) can't connect to \(socketPath): \(refusal.text)",
            remedy: "declare the guest with QEMU's user as its owner (vusbctl guest add --owner), and let QEMU's "
                + "confinement (AppArmor, SELinux, a mount name space) reach that socket")
    }

    private var isPlugged: USBError {
        USBError(.busy, "\(device) is plugged into guest \(guest) already", remedy: "unplug it first")
    }

    func refusedRemoval(_ refusal: QMPRefusal) -> USBError {
        USBError(.io, "QEMU refuses to take \(device) from guest \(guest): \(refusal.text)")
    }

    // MARK: - What didn't come to its end

    func plugging(_ error: USBError, _ limit: Duration) -> USBError {
        switch error.code {
        case .timedOut:
            USBError(
                .timedOut, "QEMU didn't plug \(device) into guest \(guest) within \(limit)",
                remedy: "look whether the QEMU process is stopped or hangs")
        default: ended(error, "plugged into")
        }
    }

    func unplugging(_ error: USBError, _ limit: Duration) -> USBError {
        switch error.code {
        case .timedOut:
            USBError(
                .timedOut, "guest \(guest) hasn't let go of device \(device) within \(limit)",
                remedy: "try again; if that doesn't help, look whether QEMU hangs, or take it away by QMP: device_del "
                    + device)
        default: ended(error, "taken from")
        }
    }

    private func ended(_ error: USBError, _ what: String) -> USBError {
        switch error.code {
        case .cancelled: USBError(.cancelled, "cancelled while \(device) was \(what) guest \(guest)")
        case .gone:
            USBError(
                .gone, "guest \(guest) was lost while \(device) was \(what) it: \(error.message)", remedy: error.remedy)
        default: error
        }
    }
}
