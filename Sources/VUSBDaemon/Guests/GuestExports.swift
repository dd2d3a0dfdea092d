// SPDX-License-Identifier: Apache-2.0

internal import Foundation
internal import Glibc
internal import VUSBCore

/// The directories that virtual machines' exporters (virtiofsd, QEMU's 9p) are given. None of its methods asks the
/// control plane for anything.
protocol GuestExporting: Sendable {
    /// What to export for the guest.
    func path(of guest: String) -> String
    /// Makes it show the guest's directory of /vusb, or show it again after a restart of vusbd.
    /// - Throws: why it can't be.
    func publish(_ guest: String) throws(USBError)
    /// It shows nothing, but is there: an exporter keeps it open, and finds the guest's directory in it when it's back.
    func withdraw(_ guest: String)
    /// It's gone.
    func remove(_ guest: String)
    /// Removes those of guests that there aren't any more.
    func removeAll(except guests: Set<String>)
}

/// A directory a guest, in which the guest's part of /vusb is mounted as `usb`, with symbolic links to what is in that.
///
/// An exporter keeps what it exports open for its life, and a FUSE mount dies with vusbd. Here it keeps an ordinary
/// directory open and looks up what is mounted in it each time: so a machine outlives restarts of vusbd.
struct GuestExports: GuestExporting {
    /// Such as /run/vusb/exports.
    let root: String
    /// Where /vusb is.
    let mount: String

    private static let share = "usb"
    /// What a guest looks for at the top.
    private static let links = ["hcd", "state", "events", "devices", "dev"]

    func path(of guest: String) -> String { "\(root)/\(guest)" }

    func publish(_ guest: String) throws(USBError) {
        // First: a directory with a dead file system on it can't even be looked at.
        detach(guest)
        let directory = path(of: guest)
        try makeDirectory(directory)
        try makeDirectory(target(guest))
        for link in Self.links { try makeLink("\(directory)/\(link)", to: "\(Self.share)/\(link)") }
        // SAFETY: mount reads the strings, during the call.
        guard unsafe Glibc.mount("\(mount)/guests/\(guest)", target(guest), nil, UInt(MS_BIND), nil) == 0 else {
            throw failure("mount of guest \(guest)'s directory at \(target(guest))", errno)
        }
    }

    func withdraw(_ guest: String) { detach(guest) }

    func remove(_ guest: String) {
        detach(guest)
        let directory = path(of: guest)
        // What isn't there needn't be removed; what somebody put there stays, and the directory with it.
        for link in Self.links { _ = unsafe unlink("\(directory)/\(link)") }
        _ = unsafe rmdir(target(guest))
        _ = unsafe rmdir(directory)
    }

    func removeAll(except guests: Set<String>) {
        // Where there is no such directory there is nothing to remove.
        let found = (try? FileManager.default.contentsOfDirectory(atPath: root)) ?? []
        for name in found where !guests.contains(name) { remove(name) }
    }

    private func target(_ guest: String) -> String { "\(path(of: guest))/\(Self.share)" }

    /// Also what killed daemons left, one over the other. Lazily: an exporter may be looking at it.
    private func detach(_ guest: String) {
        // SAFETY: umount2 reads the path, during the call. It fails when nothing is mounted there any more.
        while unsafe umount2(target(guest), Int32(MNT_DETACH) | Int32(UMOUNT_NOFOLLOW)) == 0 {}
    }

    private func makeDirectory(_ path: String) throws(USBError) {
        do {
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        } catch {
            throw failure("making \(path)", errno)
        }
    }

    private func makeLink(_ path: String, to target: String) throws(USBError) {
        // SAFETY: symlink reads the strings, during the call.
        guard unsafe symlink(target, path) == 0 || errno == EEXIST else { throw failure("making \(path)", errno) }
    }

    private func failure(_ doing: String, _ code: Int32) -> USBError {
        USBError(
            .io,
            "\(doing) failed: \(errnoText(code))",
            remedy: "run vusbd as root, or export \(mount)/guests/NAME itself: then the machine has to be started anew "
                + "after a restart of vusbd"
        )
    }
}
