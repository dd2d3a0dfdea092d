// SPDX-License-Identifier: Apache-2.0

import Synchronization
import VUSBCore
import VUSBFileSystem

@testable import VUSBDaemon

/// What the control plane shows, as a test sees it.
final class RecordingTree: GuestTree {
    struct Guest: Sendable {
        var state = ""
        var isPublished = false
        var attachments: [String: Attachment] = [:]
        var lines: [String] = []
    }

    struct Host: Sendable, Equatable {
        var state: String
        var guest: String?
    }

    private struct State {
        var guests: [String: Guest] = [:]
        var hosts: [DeviceID: Host] = [:]
        var mistakes: [String] = []
    }

    private let state = Mutex(State())

    var guests: [String: Guest] { state.withLock { $0.guests } }
    var hosts: [DeviceID: Host] { state.withLock { $0.hosts } }
    /// What should never be asked of a tree.
    var mistakes: [String] { state.withLock { $0.mistakes } }

    func setHostDevice(_ record: DeviceRecord, state text: String, guest: String?) {
        state.withLock { $0.hosts[record.id] = Host(state: text, guest: guest) }
    }

    func removeHostDevice(_ id: DeviceID) { state.withLock { $0.hosts[id] = nil } }

    func addGuest(_ name: String, access: GuestAccess) {
        state.withLock { state in
            if state.guests[name] != nil { state.mistakes.append("guest \(name) twice") }
            state.guests[name] = Guest()
        }
    }

    func removeGuest(_ name: String) {
        state.withLock { state in
            let guest = state.guests.removeValue(forKey: name)
            if guest?.attachments.isEmpty != true { state.mistakes.append("\(name) removed with devices") }
        }
    }

    func setGuestState(_ name: String, _ text: String) { state.withLock { $0.guests[name]?.state = text } }

    func setGuestPublished(_ name: String, _ published: Bool) {
        state.withLock { state in
            if !published, state.guests[name]?.attachments.isEmpty == false {
                state.mistakes.append("\(name) unpublished with devices")
            }
            state.guests[name]?.isPublished = published
        }
    }

    func appendEvent(to guest: String, line: String) { state.withLock { $0.guests[guest]?.lines.append(line) } }

    func attach(_ attachment: Attachment) {
        state.withLock { state in
            if state.guests[attachment.guest]?.isPublished != true { state.mistakes.append("attached unpublished") }
            if state.guests[attachment.guest]?.attachments[attachment.path] != nil {
                state.mistakes.append("\(attachment.path) of \(attachment.guest) twice")
            }
            state.guests[attachment.guest]?.attachments[attachment.path] = attachment
        }
    }

    func detach(path: String, from guest: String) {
        state.withLock { state in
            if state.guests[guest]?.attachments.removeValue(forKey: path) == nil {
                state.mistakes.append("\(path) of \(guest) isn't there")
            }
        }
    }

    func openHandles(path: String, of guest: String) -> Int { 1 }
}
