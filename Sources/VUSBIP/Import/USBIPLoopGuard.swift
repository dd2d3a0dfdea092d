// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import NIOCore
internal import Synchronization

/// What a front and a source of the same vusbd know together, so that it doesn't import from itself: its own connections to
/// servers.
///
/// Concurrency model: any thread; all state is in one `Mutex`, a leaf.
package final class USBIPLoopGuard: Sendable {
    private struct State {
        var entries: [Entry] = []
        /// Those at whose other end the front has found this vusbd.
        var met: [Entry] = []
    }

    /// VMADDR_CID_LOCAL: this host's own peers have it.
    private static let localMachine: UInt32 = 1
    private let state = Mutex(State())

    package init() {}

    /// A connection of this vusbd's.
    struct Entry: Sendable, Equatable {
        fileprivate enum Kind: Equatable {
            case tcp(String)
            case unix
            case vsock
        }
        fileprivate let kind: Kind
        private let connection: ObjectIdentifier

        /// Nil where its address isn't known.
        init?(_ server: USBIPServer, _ channel: any Channel) {
            connection = ObjectIdentifier(channel)
            switch server {
            case .unix: kind = .unix
            case .vsock: kind = .vsock
            case .tcp:
                guard let address = channel.localAddress, let host = address.ipAddress, let port = address.port else {
                    return nil
                }
                kind = .tcp(USBIPLoopGuard.name("\(host) port \(port)"))
            }
        }
    }

    func add(_ entry: Entry) { state.withLock { $0.entries.append(entry) } }

    func remove(_ entry: Entry) {
        state.withLock { state in
            state.entries.removeAll { $0 == entry }
            state.met.removeAll { $0 == entry }
        }
    }

    /// Whether it's this vusbd itself who has connected. Its connection hears of it: the answer on the wire doesn't say so.
    func isOwn(_ peer: USBIPIdentity) -> Bool {
        state.withLock { state in
            let found = state.entries.filter { Self.fits(peer, $0) }
            for entry in found where !state.met.contains(entry) { state.met.append(entry) }
            return !found.isEmpty
        }
    }

    /// Whether the front was asked over this connection. Of Unix sockets and vsock it knows only that it was one of those
    /// that there are.
    func hasMetItself(_ entry: Entry) -> Bool { state.withLock { $0.met.contains(entry) } }

    private static func fits(_ peer: USBIPIdentity, _ entry: Entry) -> Bool {
        switch (peer, entry.kind) {
        case (.user(_, _, let process), .unix): process == getpid()
        case (.machine(let cid), .vsock): cid == localMachine
        case (.address(let text), .tcp(let address)): name(text) == address
        // Imports have no TLS.
        default: false
        }
    }

    /// One that a listener of IPv6 sees as IPv4 in its own notation is the same.
    private static func name(_ address: String) -> String {
        address.hasPrefix("::ffff:") ? String(address.dropFirst(7)) : address
    }
}
