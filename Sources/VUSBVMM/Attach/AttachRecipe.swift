// SPDX-License-Identifier: Apache-2.0

/// What a person types in the guest where vusbd can't.
package enum AttachRecipe {
    /// Such as `modprobe vhci-hcd; usbip attach -r 10.0.2.2 -b BUSID`; one for each address that there is.
    /// - Parameter isMachine: the guest is a virtual machine, to which this host's loopback is another one's.
    package static func lines(_ addresses: [AttachAddress], isMachine: Bool) -> [String] {
        addresses.map { "modprobe vhci-hcd; " + stream($0, isMachine).command("BUSID") }
    }

    private static func stream(_ address: AttachAddress, _ isMachine: Bool) -> AttachStream {
        switch address {
        case .vsock(let port): .vsock(port: port)
        case .unix where isMachine: .serial(path: "/dev/virtio-ports/\(AttachFacts.portPrefix)0")
        case .unix(let path): .unix(path: path)
        case .tcp(let host, let port):
            switch AttachFacts.reach(of: host) {
            case .loopback where isMachine: .tcp(host: AttachFacts.userNetworkHost, port: port)
            case .loopback, .address: .tcp(host: host, port: port)
            case .any: .tcp(host: "HOST", port: port)
            }
        }
    }
}
