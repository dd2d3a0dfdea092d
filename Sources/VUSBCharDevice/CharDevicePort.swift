// SPDX-License-Identifier: Apache-2.0

internal import CVUSBShims
internal import Glibc
internal import Synchronization
package import VUSBCore

/// A device that is served as a character device.
///
/// Concurrency model: the control plane quiets and ends; the loop's threads serve. What there is is in one `Mutex`, held
/// across no call out. Lock order: a leaf. One that has ended is kept by the loop until its last opener is gone.
package final class CharDevicePort: CharServed {
    private struct State {
        var channel: CuseChannel?
        var key: UInt64?
        var phase = Phase.serving
    }

    private enum Phase {
        case serving
        /// Openers that were there may still be.
        case ended
        case closed
    }

    /// For `mknod`, and what the kernel opens it by.
    package let number: CharacterDeviceNumber
    /// Of the kernel's device: `/dev/NAME`, where devtmpfs has it for root alone.
    package let name: String
    let node: UsbfsNode
    private let loop: CharLoop
    private let tell: @Sendable (CharDeviceEvent.Kind) -> Void
    private let isChangeTold: CharFlag
    private let state: Mutex<State>

    init(
        _ channel: CuseChannel, name: String, number: CharacterDeviceNumber, loop: CharLoop, isChangeTold: CharFlag,
        tell: @escaping @Sendable (CharDeviceEvent.Kind) -> Void
    ) {
        self.name = name
        self.number = number
        node = channel.node
        self.loop = loop
        self.tell = tell
        self.isChangeTold = isChangeTold
        state = Mutex(State(channel: channel))
    }

    /// - Throws: `io` where the loop can't watch it.
    func begin() throws(USBError) {
        guard let key = loop.add(self) else {
            close()
            throw USBError(.io, "the character device \(name) can't be watched", remedy: "look for memory")
        }
        state.withLock { $0.key = key }
    }

    package var status: CharDeviceStatus {
        isChangeTold.lower()
        let claims = node.claimedInterfaces
        var lastUse: ContinuousClock.Instant?
        let openers = node.sessions.sorted { $0.id < $1.id }.map { session in
            let use = session.use
            if let last = use.lastUse { lastUse = max(lastUse ?? last, last) }
            return CharDeviceStatus.Opener(
                process: session.process, interfaces: claims.filter { $0.session == session.id }.map(\.interface),
                pending: use.pending, unreaped: use.unreaped)
        }
        return CharDeviceStatus(openers: openers, bytes: node.memoryInUse, idle: lastUse.map { .now - $0 })
    }

    /// New requests of its openers wait from now on; those in flight go on, and what has ended can be reaped.
    package func quiet() { node.quiet() }

    /// Undoes `quiet`.
    package func resume() { node.resume() }

    /// The device is gone for its openers, who get ENODEV; nobody can open it any more. The numbers are free when the
    /// last opener has closed it.
    package func end() {
        let isFirst = state.withLock { state in
            guard state.phase == .serving else { return false }
            state.phase = .ended
            return true
        }
        guard isFirst else { return }
        node.end()
        closeIfUnused()
    }

    package var isOver: Bool { state.withLock { $0.phase != .serving } }
    /// Nobody has it open any more, and the kernel has forgotten it.
    package var isClosed: Bool { state.withLock { $0.phase == .closed } }

    var channel: CuseChannel? { state.withLock { $0.channel } }

    func lost() {
        let isTold = state.withLock { $0.phase == .serving }
        node.end()
        close()
        if isTold { tell(.lost) }
    }

    /// An opener has come or gone.
    func usersChanged() {
        if state.withLock({ $0.phase == .serving }) {
            if isChangeTold.raise() { tell(.changed) }
        } else {
            closeIfUnused()
        }
    }

    private func closeIfUnused() {
        // One that is opening is told ENODEV, or is seen here when it's there.
        if node.sessions.isEmpty { close() }
    }

    /// The kernel forgets the device once no thread has a request of it in hand; its openers get ENOTCONN.
    func close() {
        let (channel, key) = state.withLock { state in
            defer { (state.channel, state.key, state.phase) = (nil, nil, .closed) }
            return (state.channel, state.key)
        }
        guard let channel else { return }
        if let key { loop.remove(channel.descriptor, key: key) }
    }
}

/// Raised until somebody has looked.
final class CharFlag: Sendable {
    private let flag = Atomic(false)

    /// - Returns: whether it was down.
    func raise() -> Bool { !flag.exchange(true, ordering: .acquiringAndReleasing) }
    func lower() { flag.store(false, ordering: .releasing) }
}
