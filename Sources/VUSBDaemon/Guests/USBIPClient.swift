// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VUSBControl
internal import VUSBIP

/// Who a guest is at listeners that all guests share.
enum USBIPClient: Sendable, Hashable {
    case machine(cid: UInt32)
    case user(UInt32)
    case certificate(commonName: String)
    case fingerprint(String)

    static let form = "cid:NUMBER, user:NAME, certificate:COMMON-NAME or sha256:FINGERPRINT"

    /// Nil for anything else, and for a user that there isn't.
    init?(_ text: String) {
        guard let (kind, rest) = Rules.usbipClient(text) else { return nil }
        switch kind {
        case .cid:
            guard let cid = UInt32(rest) else { return nil }
            self = .machine(cid: cid)
        case .user:
            guard let uid = HostAccounts.user(rest) else { return nil }
            self = .user(uid)
        case .certificate: self = .certificate(commonName: rest)
        case .sha256: self = .fingerprint(rest)
        }
    }

    /// What an identity may be declared as, what says most first.
    static func names(of identity: USBIPIdentity) -> [USBIPClient] {
        switch identity {
        case .machine(let cid): [.machine(cid: cid)]
        case .user(let uid, _, _): [.user(uid)]
        case .certificate(let fingerprint, let name):
            [.fingerprint(fingerprint)] + (name.map { [.certificate(commonName: $0)] } ?? [])
        case .address: []
        }
    }
}

/// Which guest a client is. Asked on the listener's threads.
///
/// Concurrency model: one `Mutex`, a leaf.
final class USBIPClients: Sendable {
    private let guests = Mutex<[USBIPClient: String]>([:])

    /// The guest that has it already; nil where all are its own now.
    func add(_ clients: [USBIPClient], of guest: String) -> (client: USBIPClient, guest: String)? {
        guests.withLock { guests in
            for client in clients {
                if let other = guests[client], other != guest { return (client, other) }
            }
            for client in clients { guests[client] = guest }
            return nil
        }
    }

    func remove(_ guest: String) {
        guests.withLock { guests in guests = guests.filter { $0.value != guest } }
    }

    func guest(of identity: USBIPIdentity) -> String? {
        guests.withLock { guests in
            for name in USBIPClient.names(of: identity) { if let guest = guests[name] { return guest } }
            return nil
        }
    }
}
