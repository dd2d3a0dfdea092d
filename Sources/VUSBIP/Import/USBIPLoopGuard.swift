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
        /// Local addresses of TCP connections.
        var addresses: Set<String> = []
        var unixCount = 0
        var vsockCount = 0
    }

    /// VMADDR_CID_LOCAL: this host's own peers have it.
    private static let localMachine: UInt32 = 1
    private let state = Mutex(State())

    package init() {}

    /// A connection of this vusbd's.
    struct Entry: Sendable {
        fileprivate enum Kind {
            case tcp(String)
            case unix
            case vsock
        }
        fileprivate let kind: Kind

        /// Nil where its address isn't known.
        init?(_ server: USBIPServer, _ channel: any Channel) {
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

    func add(_ entry: Entry) { change(entry, by: 1) }
    func remove(_ entry: Entry) { change(entry, by: -1) }

    private func change(_ entry: Entry, by count: Int) {
        state.withLock { state in
            switch entry.kind {
            case .unix: state.unixCount += count
            case .vsock: state.vsockCount += count
            case .tcp(let address):
                if count > 0 { state.addresses.insert(address) } else { state.addresses.remove(address) }
            }
        }
    }

    /// Whether it's this vusbd itself who has connected.
    func isOwn(_ peer: USBIPIdentity) -> Bool {
        state.withLock { state in
            switch peer {
            case .user(_, _, let process): state.unixCount > 0 && process == getpid()
            case .machine(let cid): state.vsockCount > 0 && cid == Self.localMachine
            case .address(let text): state.addresses.contains(Self.name(text))
            // Imports have no TLS.
            case .certificate: false
            }
        }
    }

    /// One that a listener of IPv6 sees as IPv4 in its own notation is the same.
    private static func name(_ address: String) -> String {
        address.hasPrefix("::ffff:") ? String(address.dropFirst(7)) : address
    }
}
