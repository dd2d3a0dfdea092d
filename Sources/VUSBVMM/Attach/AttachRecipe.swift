// SPDX-License-Identifier: Apache-2.0

/// What a person types in the guest where vusbd can't.
package enum AttachRecipe {
    /// Where socat(1) listens on the client's loopback for one that doesn't speak TLS.
    private static let tunnelPort: UInt16 = 13240

    /// Such as `modprobe vhci-hcd; usbip attach -r 10.0.2.2 -b 1-1`; one for each address that there is.
    /// - Parameters:
    ///   - isMachine: the guest is a virtual machine, to which this host's loopback is another one's.
    ///   - busIDs: of what the guest holds; the word BUSID stands for one where that's nothing.
    package static func lines(_ addresses: [AttachAddress], isMachine: Bool, busIDs: [String] = []) -> [String] {
        let busIDs = busIDs.isEmpty ? ["BUSID"] : busIDs
        return addresses.map { address in
            let before = [tunnel(address, isMachine), "modprobe vhci-hcd"].compactMap { $0 }
            let commands = busIDs.enumerated().map { stream(address, isMachine, number: $0).command($1) }
            return (before + commands).joined(separator: "; ")
        }
    }

    /// - Parameter number: of the device: a serial port takes one.
    private static func stream(_ address: AttachAddress, _ isMachine: Bool, number: Int) -> AttachStream {
        switch address {
        case .vsock(let port): .vsock(port: port)
        case .unix where isMachine: .serial(path: "/dev/virtio-ports/\(AttachFacts.portPrefix)\(number)")
        case .unix(let path): .unix(path: path)
        case .tcp(let host, let port): .tcp(host: name(of: host, isMachine), port: port)
        case .tls: .tcp(host: "127.0.0.1", port: tunnelPort)
        }
    }

    /// With the client's own certificate, its key, and who has signed the host's.
    private static func tunnel(_ address: AttachAddress, _ isMachine: Bool) -> String? {
        guard case .tls(let host, let port) = address else { return nil }
        let name = name(of: host, isMachine)
        let place = name.contains(":") ? "[\(name)]" : name
        return "socat TCP-LISTEN:\(tunnelPort),bind=127.0.0.1,fork,reuseaddr "
            + "OPENSSL:\(place):\(port),cert=CERTIFICATE,key=KEY,cafile=AUTHORITY & sleep 1"
    }

    /// What the guest knows this host's address as.
    private static func name(of host: String, _ isMachine: Bool) -> String {
        switch AttachFacts.reach(of: host) {
        case .loopback where isMachine: AttachFacts.userNetworkHost
        case .loopback, .address: host
        case .any: "HOST"
        }
    }
}
