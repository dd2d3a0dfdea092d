// SPDX-License-Identifier: Apache-2.0

/// Which of its slots a guest uses, and which device had which before: a device that comes back gets its old numbers
/// if they are free.
struct GuestNumbers: Sendable {
    struct Memory: Sendable, Equatable {
        var device: DeviceIdentity
        var slot: GuestSlot
    }

    /// Devices remembered; the one that was away longest is forgotten first.
    static let memoryLimit = 512

    private var used: Set<GuestSlot> = []
    /// The most recent last.
    private(set) var memories: [Memory] = []

    init(memories: [Memory] = []) { self.memories = memories.suffix(Self.memoryLimit) }

    /// Nil when the guest has as many devices as can be numbered.
    mutating func allot(for device: DeviceIdentity) -> GuestSlot? {
        guard let slot = freeSlot(rememberedFor: device) ?? freeSlot() else { return nil }
        used.insert(slot)
        memories.removeAll { $0.device.matches(device) || $0.slot == slot }
        memories.append(Memory(device: device, slot: slot))
        if memories.count > Self.memoryLimit { forgetOne() }
        return slot
    }

    mutating func free(_ slot: GuestSlot) { used.remove(slot) }

    private func freeSlot(rememberedFor device: DeviceIdentity) -> GuestSlot? {
        memories.last { $0.device.matches(device) && !used.contains($0.slot) }?.slot
    }

    /// The lowest that nobody is to come back to; if there is none, the lowest that nobody has.
    private func freeSlot() -> GuestSlot? {
        let remembered = Set(memories.map(\.slot))
        let free = (0..<GuestSlot.count).lazy.compactMap(GuestSlot.init(index:)).filter { !used.contains($0) }
        return free.first { !remembered.contains($0) } ?? free.first
    }

    private mutating func forgetOne() {
        let oldest = memories.firstIndex { !used.contains($0.slot) } ?? memories.startIndex
        memories.remove(at: oldest)
    }
}
