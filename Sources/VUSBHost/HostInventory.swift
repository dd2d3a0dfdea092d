// SPDX-License-Identifier: Apache-2.0

import VUSBCore

/// The devices that a source has told of, and the events that follow from what it finds now. A value: the watcher
/// owns it.
struct HostInventory {
    private var known: [DeviceID: SysfsFinding] = [:]

    var count: Int { known.count }

    /// The whole bus was read anew.
    /// - Parameter present: all that have a place in sysfs; one of them may be in the middle of a reset, and without
    ///   a finding.
    mutating func replace(with findings: [SysfsFinding], present: Set<DeviceID>) -> [DeviceEvent] {
        let gone = known.keys.filter { !present.contains($0) }.sorted()
        return gone.flatMap { remove($0) } + findings.flatMap { update($0) }
    }

    /// One device was read. No event where it is the same as before.
    mutating func update(_ finding: SysfsFinding) -> [DeviceEvent] {
        var events: [DeviceEvent] = []
        if let before = known[finding.id] {
            guard !Self.same(before, finding) else { return [] }
            events.append(.left(finding.id))
        }
        known[finding.id] = finding
        switch finding {
        case .device(let record): events.append(.arrived(record))
        case .refused(let id, _, _, let reason): events.append(.refused(id, reason: reason))
        }
        return events
    }

    /// The kernel says that a device left. With numbers given, only if they are those of the device known by that
    /// name: a late message must not take away the next device on the same port.
    mutating func remove(_ id: DeviceID, bus: Int? = nil, device: Int? = nil) -> [DeviceEvent] {
        guard let finding = known[id] else { return [] }
        let numbers = Self.numbers(finding)
        guard bus ?? numbers.bus == numbers.bus, device ?? numbers.device == numbers.device else { return [] }
        known[id] = nil
        return [.left(id)]
    }

    private static func numbers(_ finding: SysfsFinding) -> (bus: Int?, device: Int?) {
        switch finding {
        case .device(let record): (record.busNumber, record.deviceNumber)
        case .refused(_, let bus, let device, _): (bus, device)
        }
    }

    /// Strings are left out: the kernel may still be reading them.
    private static func same(_ left: SysfsFinding, _ right: SysfsFinding) -> Bool {
        guard numbers(left) == numbers(right) else { return false }
        return switch (left, right) {
        case (.device(let left), .device(let right)):
            left.descriptors.bytes == right.descriptors.bytes && left.speed == right.speed
        case (.refused(_, _, _, let left), .refused(_, _, _, let right)): left == right
        case (.device, .refused), (.refused, .device): false
        }
    }
}
