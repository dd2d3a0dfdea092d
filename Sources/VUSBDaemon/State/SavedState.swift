// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl
internal import VUSBVMM

/// What survives the daemon: guests declared by control, what is loaded, who has which device, and which numbers.
struct SavedState: Codable, Sendable, Equatable {
    struct Loaded: Codable, Sendable, Equatable {
        var guest: String
        var process: GuestProcess?
        /// A `GuestMode`, or `auto` where it's to be looked at anew; absent in files that were written before there were several.
        var mode: String?
        var held: [GuestEntry.Held]
        var released: [DeviceIdentity]
    }

    /// What vusbd brought into a guest's kernel and hasn't taken out: it's found again after a restart, also where the
    /// load had not ended.
    struct Modules: Codable, Sendable, Equatable {
        var guest: String
        var loaded: LoadedModules
    }

    /// The numbers that a guest has or had a device under.
    struct Number: Codable, Sendable, Equatable {
        var guest: String
        var device: DeviceIdentity
        var busNumber: Int
        var deviceNumber: Int
        /// Absent in files that were written when it was the same as the device number.
        var port: Int?
    }

    /// Of a guest's character nodes: containers' rules name it.
    struct Major: Codable, Sendable, Equatable {
        var guest: String
        var major: Int
    }

    /// What mode `auto` has chosen for a guest by what it measured: a restart isn't to undo that.
    struct Chosen: Codable, Sendable, Equatable {
        var guest: String
        var mode: String
    }

    /// Somebody's word that a device isn't to be taken from the guest.
    struct HoldOf: Codable, Sendable, Equatable {
        var device: DeviceIdentity
        var guest: String
        /// Seconds since 1970.
        var until: Double
        var reason: String?
    }

    var guests: [GuestSpec] = []
    /// In the order in which they were loaded.
    var loaded: [Loaded] = []
    var numbers: [Number] = []
    /// Absent in files that were written before there were any.
    var modules: [Modules]?
    /// Added by control, in their order; absent as the modules.
    var claims: [ClaimSpec]?
    /// Absent as the modules.
    var majors: [Major]?
    /// Absent as the modules.
    var chosen: [Chosen]?
    /// Absent as the modules.
    var holds: [HoldOf]?
    /// Added by control; absent as the modules.
    var imports: [ImportSpec]?

    init() {}

    init(
        _ registry: GuestRegistry, _ table: ClaimTable = ClaimTable(), holds: [HoldOf] = [], imports: [ImportSpec] = []
    ) {
        self.holds = holds.isEmpty ? nil : holds
        self.imports = imports.isEmpty ? nil : imports
        let entries = registry.sorted
        let added = table.claims.filter { $0.declaredBy == .control }.map(\.specification)
        claims = added.isEmpty ? nil : added
        guests = entries.filter { $0.declaredBy == .control }.map(\.definition.specification)
        loaded = entries.filter(\.keepsLoaded).sorted { $0.loadOrder < $1.loadOrder }.map { entry in
            Loaded(
                guest: entry.definition.name,
                process: entry.process,
                mode: entry.isModeAuto ? "auto" : entry.loadedMode?.rawValue,
                held: entry.held,
                released: entry.released
            )
        }
        let brought = entries.compactMap { entry in
            entry.modules.map { Modules(guest: entry.definition.name, loaded: $0) }
        }
        modules = brought.isEmpty ? nil : brought
        let majors = entries.compactMap { entry in
            entry.nodeMajor.map { Major(guest: entry.definition.name, major: $0) }
        }
        self.majors = majors.isEmpty ? nil : majors
        let chosen = entries.compactMap { entry in
            entry.autoMode.map { Chosen(guest: entry.definition.name, mode: $0.rawValue) }
        }
        self.chosen = chosen.isEmpty ? nil : chosen
        numbers = entries.flatMap { entry in
            entry.numbers.memories.map { memory in
                Number(
                    guest: entry.definition.name,
                    device: memory.device,
                    busNumber: memory.slot.busNumber,
                    deviceNumber: memory.slot.deviceNumber,
                    port: memory.slot.port
                )
            }
        }
    }

    /// What each guest's numbers begin with. Numbers that can't be are left out.
    var memories: [String: [GuestNumbers.Memory]] {
        var memories: [String: [GuestNumbers.Memory]] = [:]
        for number in numbers {
            let port = number.port ?? number.deviceNumber
            guard let slot = GuestSlot(busNumber: number.busNumber, port: port) else { continue }
            memories[number.guest, default: []].append(GuestNumbers.Memory(device: number.device, slot: slot))
        }
        return memories
    }
}
