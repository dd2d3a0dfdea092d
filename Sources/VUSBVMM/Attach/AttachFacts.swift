// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// What a guest says of its ways to attach devices from inside (`GuestScript.attachFacts`).
struct AttachFacts: Sendable {
    /// What an address of this host is to a guest.
    enum Reach { case loopback, any, address }

    /// Names of serial ports that lead to vusbd begin so.
    static let portPrefix = "org.vusb.usbip."
    /// QEMU's user network forwards what goes there to the host's loopback.
    static let userNetworkHost = "10.0.2.2"
    /// 10.0.2.0 as /proc/net/route has it.
    private static let userNetwork: UInt32 = 0x0002_000a
    private static let mostPorts = 64
    /// Each is asked in turn: a guest with more routes doesn't keep vusbd longer.
    private static let mostGateways = 8

    let kernel: GuestFacts
    /// `vhci-hcd` is there, loaded or built in.
    let hasVHCI: Bool
    /// The guest's own programs; nil where it has none.
    let helper: String?
    let usbip: String?
    /// The helper that an earlier load has copied is there yet.
    let hasCopy: Bool
    let hasVsock: Bool
    /// Nodes of serial ports that lead to vusbd, in the order of their names.
    let ports: [String]
    private let routes: [(destination: UInt32, gateway: UInt32)]

    /// - Throws: `io` where the answer lacks what every kernel has.
    init(_ answer: GuestAnswer, guest: String) throws(USBError) {
        kernel = try GuestFacts(answer, guest: guest)
        hasVHCI = answer.value("vhci") == "1"
        helper = answer.value("tool.vusb-attach").flatMap { Self.path($0) }
        usbip = answer.value("tool.usbip").flatMap { Self.path($0) }
        hasCopy = answer.value("copy") == "1"
        hasVsock = answer.value("vsock") == "1"
        ports = Self.ports(answer)
        routes = answer.values("route").compactMap { Self.route($0) }
    }

    /// Streams to these addresses, in the order in which they are tried.
    func streams(to addresses: [AttachAddress]) -> [AttachStream] {
        var vsock: [AttachStream] = []
        var tcp: [AttachStream] = []
        var serial: [AttachStream] = []
        for address in addresses {
            switch address {
            case .vsock(let port): if hasVsock { vsock.append(.vsock(port: port)) }
            case .tcp(let host, let port): tcp += hosts(for: host).map { .tcp(host: $0, port: port) }
            case .tls: break
            case .unix: serial = ports.map { .serial(path: $0) }
            }
        }
        return vsock + tcp + serial
    }

    /// What the guest may know an address of this host as.
    private func hosts(for host: String) -> [String] {
        switch Self.reach(of: host) {
        case .address: [host]
        case .loopback: hasUserNetwork ? [Self.userNetworkHost] : []
        case .any: gateways
        }
    }

    private var hasUserNetwork: Bool { routes.contains { $0.destination == Self.userNetwork } }

    /// Of its default routes, each once, the first few.
    private var gateways: [String] {
        var texts: [String] = []
        for route in routes where route.destination == 0 && route.gateway != 0 {
            // The kernel prints a number of the machine's own order; all that we know are little-endian.
            let text = (0..<4).map { "\(route.gateway >> (UInt32($0) * 8) & 0xff)" }.joined(separator: ".")
            if !texts.contains(text) { texts.append(text) }
            if texts.count == Self.mostGateways { break }
        }
        return texts
    }

    static func reach(of host: String) -> Reach {
        if host == "0.0.0.0" || host == "::" { return .any }
        return host.hasPrefix("127.") || host == "::1" ? .loopback : .address
    }

    // MARK: - Lines

    private static let pathBytes = Set(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/._+-".utf8)

    /// An absolute path of `[A-Za-z0-9/._+-]`, which mean nothing to a shell: people are shown it in a command to type.
    static func path(_ text: String) -> String? {
        guard text.first == "/", text.utf8.count <= 200,
            text.utf8.allSatisfy({ pathBytes.contains($0) })
        else { return nil }
        return text
    }

    /// `NODE NAME`.
    private static func ports(_ answer: GuestAnswer) -> [String] {
        let found = answer.values("port").prefix(mostPorts).compactMap { line -> (node: String, name: String)? in
            let words = line.split(separator: " ").map { String($0) }
            guard words.count == 2, words[1].hasPrefix(portPrefix), let node = path(words[0]),
                node.hasPrefix("/dev/")
            else { return nil }
            return (node, words[1])
        }
        return found.sorted { $0.name < $1.name }.map(\.node)
    }

    /// `DESTINATION GATEWAY`, hexadecimal.
    private static func route(_ text: String) -> (destination: UInt32, gateway: UInt32)? {
        let words = text.split(separator: " ")
        guard words.count == 2, let destination = UInt32(words[0], radix: 16),
            let gateway = UInt32(words[1], radix: 16)
        else { return nil }
        return (destination, gateway)
    }
}
