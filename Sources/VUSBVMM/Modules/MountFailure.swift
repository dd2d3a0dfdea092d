// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// What mount(8)'s words mean. They differ between util-linux, busybox and kernels, the errno's words in them don't.
struct MountFailure {
    let share: GuestShare
    let tag: String
    let result: ProgramResult

    var error: USBError {
        let text = PlainText.lastLines(result.errors.isEmpty ? result.output : result.errors)
        let said = text.isEmpty ? "it failed with \(result.end)" : text
        guard result.end != .exited(3) else {
            return USBError(.io, said, remedy: "make the directory \(share.path) in the guest")
        }
        if text.contains("unknown filesystem type") {
            return USBError(.unsupported, said, remedy: missingType)
        }
        let words = ["No such device", "does not exist", "Invalid argument", "wrong fs type", "No such file"]
        if words.contains(where: { text.contains($0) }) {
            return USBError(.notFound, said, remedy: missingDevice)
        }
        if text.contains("ermission denied") || text.contains("not permitted") {
            return USBError(.accessDenied, said, remedy: "the guest's agent must run as root, and not confined")
        }
        return USBError(.io, said, remedy: "see the guest's dmesg, and that the exporter of its machine runs")
    }

    private var missingType: String {
        share.kind == .virtiofs
            ? "the guest's kernel needs the module virtiofs (since Linux 5.4); or share by 9p"
            : "the guest's kernel needs the modules 9p and 9pnet_virtio; or share by virtiofs"
    }

    private var missingDevice: String {
        let device =
            share.kind == .virtiofs
            ? "vhost-user-fs-pci,tag=\(tag) with virtiofsd" : "virtio-9p-pci,mount_tag=\(tag) with an -fsdev local"
        return "give the machine a device with the tag \(tag): \(device)"
    }
}
