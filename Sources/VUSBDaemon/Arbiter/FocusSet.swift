// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl
internal import VUSBCore

/// Devices that go from guest to guest together: a keyboard, a mouse, a drive.
struct FocusSet: Sendable, Equatable {
    var name: String
    var devices: [DeviceSelector]
    /// In the order of the hot key's digits, from 1 on; 0 is the tenth.
    var guests: [String]
    /// Nil where no key moves it.
    var chord: KeyboardChord.Definition?
    var follows: Bool

    static let guestLimit = 10
    static let limit = 16
    static let defaultHotKey = "scrolllock,scrolllock,digit"

    func has(_ record: DeviceRecord) -> Bool { devices.contains { $0.matches(record) } }

    /// Whom a digit means; nil where there is no such guest.
    func guest(digit: UInt8) -> String? {
        let index = digit == 0 ? 9 : Int(digit) - 1
        return guests.indices.contains(index) ? guests[index] : nil
    }

    /// Those of its devices that are there, in the order in which they're taken (F1).
    func members(of records: [DeviceRecord]) -> [DeviceRecord] {
        records.filter(has).sorted { ($0.focusRank, $0.id) < ($1.focusRank, $1.id) }
    }
}

extension DeviceRecord {
    /// Whether it's only there to be typed on or pointed with: what is on its way is never more than a moment old.
    var isInput: Bool {
        let interfaces = descriptors.configurations.first?.interfaces ?? []
        return !interfaces.isEmpty && interfaces.allSatisfy { $0.bInterfaceClass == 3 }
    }

    private var isKeyboard: Bool {
        descriptors.configurations.first?.interfaces.contains {
            $0.bInterfaceClass == 3 && $0.bInterfaceProtocol == 1
        } == true
    }

    /// What may be in use comes first, and what people would notice last.
    fileprivate var focusRank: Int { !isInput ? 0 : isKeyboard ? 2 : 1 }
}

extension FocusSet {
    /// - Parameter present: those that are there, with the guest that has each.
    func info(_ present: [(id: DeviceID, guest: String?)]) -> FocusInfo {
        let holders = Set(present.map(\.guest))
        return FocusInfo(
            name: name, devices: devices.map(\.description), guests: guests, hotKey: chord?.text, follows: follows,
            present: present.map(\.id.rawValue), focused: holders.count == 1 ? holders.first ?? nil : nil)
    }
}
