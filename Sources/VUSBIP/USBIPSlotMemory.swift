// SPDX-License-Identifier: Apache-2.0

/// The slots of a session for URBs, made once: nothing is allocated for one of them.
@safe
struct USBIPSlotMemory<Slot: ~Copyable>: ~Copyable, @unchecked Sendable {
    // SAFETY: the memory has this value as its only owner, and its session guards that with a Mutex.
    private let base: UnsafeMutablePointer<Slot>
    private var free: [Int]

    init(_ make: () -> Slot) {
        unsafe base = UnsafeMutablePointer<Slot>.allocate(capacity: USBIPLimits.urbs)
        for index in 0..<USBIPLimits.urbs { unsafe (base + index).initialize(to: make()) }
        free = Array((0..<USBIPLimits.urbs).reversed())
    }

    deinit {
        unsafe base.deinitialize(count: USBIPLimits.urbs)
        unsafe base.deallocate()
    }

    var inUse: Int { USBIPLimits.urbs - free.count }

    subscript(index: Int) -> Slot {
        _read {
            precondition(index >= 0 && index < USBIPLimits.urbs)
            yield unsafe base[index]
        }
        _modify {
            precondition(index >= 0 && index < USBIPLimits.urbs)
            yield unsafe &base[index]
        }
    }

    /// Nil where all are in use. What is in it is what was left there.
    mutating func take() -> Int? { free.popLast() }

    mutating func giveBack(_ index: Int) { free.append(index) }
}
