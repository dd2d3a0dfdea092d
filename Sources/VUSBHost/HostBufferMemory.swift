// SPDX-License-Identifier: Apache-2.0

import CLibUSB
import Synchronization
import VUSBCore

/// How much of the host's `usbfs_memory_mb` buffers may take: what they hold is lost to all other transfers.
final class HostMemoryBudget: Sendable {
    let limit: Int
    private let used = Atomic<Int>(0)

    init(limit: Int) { self.limit = limit }

    /// Bytes that all transfers of a host may hold; nil where the kernel doesn't say, 0 for no limit.
    static func kernelLimit(_ paths: HostPaths) -> Int? {
        HostFiles.number(paths.usbcoreParameters + "/usbfs_memory_mb").flatMap { megabytes in
            (0...(1 << 20)).contains(megabytes) ? megabytes << 20 : nil
        }
    }

    /// False, and nothing taken, where it would go beyond.
    func take(_ byteCount: Int) -> Bool {
        let before = used.wrappingAdd(byteCount, ordering: .relaxed).oldValue
        if before + byteCount <= limit { return true }
        give(byteCount)
        return false
    }

    func give(_ byteCount: Int) { used.wrappingSubtract(byteCount, ordering: .relaxed) }

    var usedBytes: Int { used.load(ordering: .relaxed) }
}

/// Memory that usbfs maps for one device, from which the kernel moves data without a copy (`libusb_dev_mem_alloc`).
///
/// Concurrency model: any thread allocates and frees; the state is in one `Mutex`, held across no call to libusb. The
/// handle stays open as long as a buffer lives.
final class HostBufferMemory: BufferMemory {
    private struct State {
        var handle: HostHandle?
        var live: Set<UInt> = []
        /// Under way at libusb.
        var pending = 0
        var isRetired = false

        mutating func closeIfUnused() -> HostHandle? {
            guard isRetired, live.isEmpty, pending == 0 else { return nil }
            return handle.take()
        }
    }

    private let state: Mutex<State>
    private let budget: HostMemoryBudget

    init(handle: HostHandle, budget: HostMemoryBudget) {
        state = Mutex(State(handle: handle))
        self.budget = budget
    }

    func allocate(byteCount: Int) -> UnsafeMutableRawPointer? {
        let handle: HostHandle? = state.withLock { state in
            guard !state.isRetired, let handle = state.handle else { return nil }
            state.pending += 1
            return handle
        }
        guard let handle else { return nil }
        let memory = unsafe allocate(byteCount, through: handle)
        let address = UInt(bitPattern: memory)
        let unused = state.withLock { state in
            state.pending -= 1
            if address != 0 { state.live.insert(address) }
            return state.closeIfUnused()
        }
        withExtendedLifetime(unused) {}
        return unsafe memory
    }

    private func allocate(_ byteCount: Int, through handle: HostHandle) -> UnsafeMutableRawPointer? {
        guard budget.take(byteCount) else { return nil }
        guard let memory = unsafe libusb_dev_mem_alloc(handle.raw, byteCount) else {
            // A kernel or a controller without it, or the limit of all processes: ordinary memory serves as well.
            budget.give(byteCount)
            return nil
        }
        return UnsafeMutableRawPointer(memory)
    }

    func free(_ memory: UnsafeMutableRawPointer, byteCount: Int) -> Bool {
        let address = UInt(bitPattern: memory)
        // Forgotten before it is unmapped: the kernel may give the same address to another thread's buffer at once.
        let handle: HostHandle? = state.withLock { state in
            guard state.live.remove(address) != nil else { return nil }
            state.pending += 1
            return state.handle
        }
        guard let handle else { return false }
        // SAFETY: allocated by the other function of this name, of this size; the pool frees it once.
        unsafe libusb_dev_mem_free(handle.raw, memory.assumingMemoryBound(to: UInt8.self), byteCount)
        budget.give(byteCount)
        let unused = state.withLock { state in
            state.pending -= 1
            return state.closeIfUnused()
        }
        withExtendedLifetime(unused) {}
        return true
    }

    /// Nothing more is allocated; the handle goes with the last buffer.
    func retire() {
        let unused = state.withLock { state in
            state.isRetired = true
            return state.closeIfUnused()
        }
        withExtendedLifetime(unused) {}
    }
}
