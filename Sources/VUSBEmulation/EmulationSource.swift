// SPDX-License-Identifier: Apache-2.0

import Synchronization
package import VUSBCore

/// The source of devices that the host doesn't have: they come with `add` and go with `remove`, like plug and unplug.
/// What a device keeps (a disk's content, a line's echo) belongs to it, not to who has it open.
///
/// Concurrency model: any thread. The list of devices and the stream of events are behind one `Mutex`, so that events
/// are in the order of what happened; it's held across no call to a device. Lock order: none, it is a leaf.
package final class EmulationSource: DeviceSource {
    package let name = "emulation"
    /// Devices that can be plugged in at once, in all: a bound for what clients can make the daemon keep.
    package static let maximumDevices = 10_000

    fileprivate struct Entry {
        let record: DeviceRecord
        let unit: any EmulatedUnit
    }

    fileprivate struct State {
        var entries: [DeviceID: Entry] = [:]
        /// In the order of their arrival.
        var order: [DeviceID] = []
        var blueprints: [BlueprintKey: Blueprint] = [:]
        var events: AsyncStream<DeviceEvent>.Continuation?
    }

    fileprivate struct BlueprintKey: Hashable {
        let kind: String
        let speed: DeviceSpeed
    }

    private let state = Mutex(State())
    private let clock = PaceClock()

    package init() {}

    // MARK: - DeviceSource

    package func start() throws(USBError) -> AsyncStream<DeviceEvent> {
        let (stream, continuation) = AsyncStream.makeStream(of: DeviceEvent.self)
        state.withLock { state in
            for id in state.order {
                if let entry = state.entries[id] { continuation.yield(.arrived(entry.record)) }
            }
            state.events = continuation
        }
        return stream
    }

    package func open(_ record: DeviceRecord, isForced: Bool) async throws(USBError) -> OpenedDevice {
        guard let entry = state.withLock({ $0.entries[record.id] }) else { throw Self.gone(record.id) }
        guard entry.record.descriptors == record.descriptors else {
            throw USBError(.gone, "\(record.id) is another device now", remedy: "look at the list of devices again")
        }
        try entry.unit.open()
        return OpenedDevice(backend: entry.unit, configurationValue: 1)
    }

    package func stop() async {
        state.withLock { state in
            state.events?.finish()
            state.events = nil
        }
    }

    // MARK: - Plugging

    /// Plugs in what `specification` says: all of it or, where something is wrong, nothing.
    /// - Throws: `invalid` for a name that is taken; `busy` beyond `maximumDevices`; what `ImageFile` says of an image.
    @discardableResult
    package func add(_ specification: EmulationSpecification) throws(USBError) -> [DeviceRecord] {
        let blueprint = try blueprint(specification)
        let taken = state.withLock { Set($0.entries.keys) }
        try Self.checkRoom(taken.count, adding: specification.count ?? 1)
        var made: [Entry] = []
        for id in try Self.ids(specification, taken: taken) {
            made.append(try makeEntry(id, specification, blueprint))
        }
        // Others may have added theirs meanwhile.
        try state.withLock { state throws(USBError) in
            try Self.checkRoom(state.entries.count, adding: made.count)
            if let clash = made.first(where: { state.entries[$0.record.id] != nil }) {
                throw Self.taken(clash.record.id)
            }
            for entry in made { state.insert(entry) }
        }
        return made.map(\.record)
    }

    /// Unplugs a device: what is in flight on it ends with `noDevice`.
    package func remove(_ id: DeviceID) throws(USBError) {
        let entry = state.withLock { state in
            let entry = state.entries.removeValue(forKey: id)
            state.order.removeAll { $0 == id }
            if entry != nil { state.events?.yield(.left(id)) }
            return entry
        }
        guard let entry else { throw Self.gone(id) }
        entry.unit.unplug()
    }

    /// Types on a keyboard.
    /// - Throws: `notFound`, `unsupported` for a device that is no keyboard, and as `KeyboardModel.type`.
    package func type(_ text: String, on id: DeviceID) throws(USBError) {
        try keyboard(id).act { (model, effects) throws(USBError) in try model.type(text, effects: &effects) }
    }

    /// Presses and releases keys of a keyboard.
    /// - Throws: as `type`, and as `KeyboardModel.press`.
    package func press(_ keys: [String], on id: DeviceID) throws(USBError) {
        try keyboard(id).act { (model, effects) throws(USBError) in try model.press(keys, effects: &effects) }
    }

    private func keyboard(_ id: DeviceID) throws(USBError) -> EmulatedDevice<KeyboardModel> {
        guard let entry = state.withLock({ $0.entries[id] }) else { throw Self.gone(id) }
        guard let keyboard = entry.unit as? EmulatedDevice<KeyboardModel> else {
            throw USBError(.unsupported, "\(id) is no keyboard", remedy: "make one with --emulate keyboard")
        }
        return keyboard
    }

    // MARK: - Making

    private func blueprint(_ specification: EmulationSpecification) throws(USBError) -> Blueprint {
        let kind = specification.kind.blueprintKind
        let key = BlueprintKey(kind: kind.name, speed: specification.speed)
        if let known = state.withLock({ $0.blueprints[key] }) { return known }
        do {
            let made = try Blueprint(kind, speed: specification.speed)
            state.withLock { $0.blueprints[key] = made }
            return made
        } catch {
            // A defect of the model; its descriptors are constants.
            throw USBError(.unsupported, "emulate \(kind.name): \(error)")
        }
    }

    private func makeEntry(
        _ id: DeviceID,
        _ specification: EmulationSpecification,
        _ blueprint: Blueprint
    ) throws(USBError) -> Entry {
        let serial = Self.serial(id, specification)
        let unit: any EmulatedUnit =
            switch specification.kind {
            case .zero(let pattern):
                device(id, blueprint, ZeroModel(pattern: pattern, speed: specification.speed), serial)
            case .serial: device(id, blueprint, SerialModel(), serial)
            case .keyboard: device(id, blueprint, KeyboardModel(), serial)
            case .disk(let image, let readOnly):
                device(
                    id,
                    blueprint,
                    DiskModel(image: try ImageFile(path: image, readOnly: readOnly), serial: serial),
                    serial
                )
            }
        let record = DeviceRecord(
            id: id,
            source: name,
            speed: specification.speed,
            descriptors: blueprint.descriptors,
            manufacturer: Blueprint.manufacturer,
            product: blueprint.product,
            serial: serial
        )
        return Entry(record: record, unit: unit)
    }

    private func device<Model: DeviceModel>(
        _ id: DeviceID,
        _ blueprint: Blueprint,
        _ model: Model,
        _ serial: String
    ) -> EmulatedDevice<Model> {
        EmulatedDevice(id: id, blueprint: blueprint, model: model, serial: serial, clock: clock)
    }

    /// The same at every start, so that a claim by serial number finds its device again: 16 hexadecimal digits made of
    /// the id (FNV-1a), since mass storage wants at least 12 of them (Bulk-Only Transport 1.0, 4.1.1).
    private static func serial(_ id: DeviceID, _ specification: EmulationSpecification) -> String {
        if let serial = specification.serial {
            guard specification.count != nil else { return serial }
            return serial + (id.rawValue.split(separator: "-").last.map { "-\($0)" } ?? "")
        }
        let hash = id.rawValue.utf8.reduce(0xcbf2_9ce4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
        let digits = String(hash, radix: 16, uppercase: true)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }

    /// `emu-NAME`, `emu-NAME-1` and so on where a count is given; where no name is, the first of the kind's that's free.
    private static func ids(
        _ specification: EmulationSpecification,
        taken: Set<DeviceID>
    ) throws(USBError) -> [DeviceID] {
        let base = "emu-" + (specification.name ?? specification.kind.blueprintKind.name)
        var ids: [DeviceID]
        if let count = specification.count {
            ids = (1...count).map { DeviceID("\(base)-\($0)") }
        } else {
            ids = [DeviceID(base)]
            var number = 2
            while specification.name == nil, taken.contains(ids[0]) {
                ids = [DeviceID("\(base)-\(number)")]
                number += 1
            }
        }
        if let clash = ids.first(where: taken.contains) { throw self.taken(clash) }
        return ids
    }

    private static func checkRoom(_ present: Int, adding count: Int) throws(USBError) {
        guard present + count > maximumDevices else { return }
        throw USBError(
            .busy,
            "\(count) more would make \(present + count) emulated devices, and \(maximumDevices) is the limit",
            remedy: "unplug some that nobody needs, or ask for fewer"
        )
    }

    private static func taken(_ id: DeviceID) -> USBError {
        USBError(.invalid, "there is a device \(id) already", remedy: "give another name=")
    }

    private static func gone(_ id: DeviceID) -> USBError {
        USBError(.notFound, "there is no emulated device \(id)", remedy: "look at the list of devices")
    }
}

extension EmulationSource.State {
    fileprivate mutating func insert(_ entry: EmulationSource.Entry) {
        entries[entry.record.id] = entry
        order.append(entry.record.id)
        events?.yield(.arrived(entry.record))
    }
}
