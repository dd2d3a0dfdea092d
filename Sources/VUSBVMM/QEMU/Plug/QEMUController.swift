// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// A USB controller of QEMU's, with the ports that a device of each speed can be plugged into.
struct QEMUController: Equatable {
    /// Ports count from 1. QEMU plugs a device into any of them and then keeps it detached where the speed is wrong.
    struct Ports: Equatable {
        var superSpeed: [Int] = []
        var highSpeed: [Int] = []
        /// Full and low speed.
        var slow: [Int] = []

        var count: Int { Set(superSpeed + highSpeed + slow).count }

        func at(_ speed: DeviceSpeed) -> [Int] {
            switch speed {
            case .low, .full: slow
            case .high: highSpeed
            case .super, .superPlus: superSpeed
            }
        }
    }

    var bus: String
    var kind: GuestController.Kind
    var ports: Ports
    /// False where QEMU didn't say how many ports it has: they are tried.
    var isCounted = true
    /// Ports that are known to be taken: others may be as well.
    var taken: Set<Int> = []
    var freePorts: Int?

    /// Where to try to plug in a device.
    func possiblePorts(at speed: DeviceSpeed) -> [Int] { ports.at(speed).filter { !taken.contains($0) } }

    /// QEMU's limit for any controller (`XHCI_MAXPORTS_2`).
    static let maximumPorts = 15
    static let ehciPorts = 6
    static let uhciPorts = 2
    static let ohciPorts = 3

    var asGuestController: GuestController {
        GuestController(bus: bus, kind: kind, ports: isCounted ? ports.count : nil, freePorts: freePorts)
    }

    /// By the name of QEMU's type: `qemu-xhci`, `ich9-usb-ehci1`, `sysbus-ohci` ...
    static func kind(ofType type: String) -> GuestController.Kind? {
        GuestController.Kind.allCases.first { type.contains($0.rawValue) }
    }

    /// A range of ports, whatever numbers QEMU has said.
    static func range(_ count: Int?, default usual: Int, after first: Int = 0) -> [Int] {
        let start = min(max(first, 0), maximumPorts)
        let end = min(start + min(max(count ?? usual, 0), maximumPorts), maximumPorts)
        return Array(start..<end).map { $0 + 1 }
    }

    /// An xhci's: its connectors begin with those that are both.
    static func xhciPorts(_ usb2: Int?, _ usb3: Int?) -> Ports {
        let slow = range(usb2, default: maximumPorts)
        return Ports(superSpeed: range(usb3, default: maximumPorts), highSpeed: slow, slow: slow)
    }
}

// MARK: - The choice

extension QEMUController {
    /// Those that such a device can be plugged into, the best first.
    static func candidates(_ all: [QEMUController], for wish: PlugWish) -> [QEMUController] {
        order(for: wish).flatMap { kind in
            all.filter { $0.kind == kind && !$0.ports.at(wish.speed).isEmpty }.sorted { $0.bus < $1.bus }
        }
    }

    /// An ehci has ports for full and low speed where companions of it do the work. High-speed devices at an ohci or uhci
    /// would have to pretend to be others.
    private static func order(for wish: PlugWish) -> [GuestController.Kind] {
        if wish.wantsStreams { return [.xhci] }
        switch wish.speed {
        case .super, .superPlus: return [.xhci]
        case .high: return [.xhci, .ehci]
        case .full, .low: return [.xhci, .ehci, .uhci, .ohci]
        }
    }
}
