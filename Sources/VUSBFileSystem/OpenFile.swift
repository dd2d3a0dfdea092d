// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Synchronization
internal import VUSBCore

/// Names an open file to the kernel: index and generation, so that a number from the past finds nothing.
struct FileHandleID: Hashable, Sendable {
    let rawValue: UInt64
    /// As the "pointer" that libfuse keeps for an interrupt.
    var bits: UInt { UInt(rawValue) }
}

/// What one open of a file in /vusb can do. Reader threads call it; nothing in here may block.
protocol OpenFile: AnyObject, Sendable {
    func read(_ reply: consuming sending FUSEReply, size: Int, offset: Int64, isNonblocking: Bool)
    func write(_ reply: consuming sending FUSEReply, _ data: borrowing WriteData, isNonblocking: Bool)
    /// The file may keep `handle` to tell later that something has changed.
    func poll(_ reply: consuming FUSEReply, events: UInt32, handle: consuming sending PollHandle?)
    func sync(_ reply: consuming sending FUSEReply)
    func interrupted(_ request: UInt)
    /// The last close; nothing comes after it.
    func closed()
    /// The session ends: whoever still waits is answered ENODEV. No request is being carried out any more.
    func abandon()
}

extension OpenFile {
    func write(_ reply: consuming sending FUSEReply, _ data: borrowing WriteData, isNonblocking: Bool) {
        reply.error(EBADF)
    }

    /// As for a regular file: always ready.
    func poll(_ reply: consuming FUSEReply, events: UInt32, handle: consuming sending PollHandle?) {
        reply.poll(events & (PollEvents.readable | PollEvents.writable))
    }

    func sync(_ reply: consuming sending FUSEReply) { reply.done() }
    func interrupted(_ request: UInt) {}
    func closed() {}
    func abandon() {}
}

/// The files that are open now.
///
/// Concurrency model: any reader thread; one `Mutex`, a leaf.
final class OpenFileTable: Sendable {
    private struct Slot {
        var generation: UInt32 = 0
        var file: (any OpenFile)?
    }

    private struct State {
        var slots: [Slot] = []
        var free: [Int] = []
    }

    private let state = Mutex(State())

    /// As many as there may be at once, so that a guest can't exhaust the host's memory by opening.
    static let limit = 65_536

    enum Opening {
        case opened(FileHandleID)
        /// `make` had nothing to open.
        case missing
        /// The limit is reached.
        case full
    }

    /// - Parameter make: makes the file, which learns its own number; nil where there is none.
    func open(_ make: (FileHandleID) -> (any OpenFile)?) -> Opening {
        let id = state.withLock { state -> FileHandleID? in
            if state.free.isEmpty {
                guard state.slots.count < Self.limit else { return nil }
                state.slots.append(Slot())
                state.free.append(state.slots.count - 1)
            }
            let index = state.free.removeLast()
            state.slots[index].generation &+= 1
            return FileHandleID(rawValue: UInt64(state.slots[index].generation) << 32 | UInt64(index + 1))
        }
        guard let id else { return .full }
        let file = make(id)
        state.withLock { state in
            state.slots[Self.index(id)].file = file
            if file == nil { state.free.append(Self.index(id)) }
        }
        return file == nil ? .missing : .opened(id)
    }

    func file(_ id: FileHandleID) -> (any OpenFile)? {
        state.withLock { state in
            let index = Self.index(id)
            guard state.slots.indices.contains(index), state.slots[index].generation == UInt32(id.rawValue >> 32)
            else { return nil }
            return state.slots[index].file
        }
    }

    func close(_ id: FileHandleID) {
        let file = file(id)
        state.withLock { state in
            guard file != nil else { return }
            state.slots[Self.index(id)].file = nil
            state.free.append(Self.index(id))
        }
        file?.closed()
    }

    var all: [any OpenFile] { state.withLock { $0.slots.compactMap(\.file) } }

    private static func index(_ id: FileHandleID) -> Int { Int(UInt32(truncatingIfNeeded: id.rawValue)) - 1 }
}
