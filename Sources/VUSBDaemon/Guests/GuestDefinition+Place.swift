// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl
internal import VUSBVMM

/// What loading a guest needs of its declaration.
extension GuestDefinition {
    /// The modes that the declaration suffices for.
    var possibleModes: [GuestMode] {
        GuestMode.allCases.filter { mode in
            switch mode {
            case .files: true
            case .redirect: machine != nil
            case .usbip: !listen.isEmpty || !clients.isEmpty
            case .module: machine == nil || (machine?.agent != nil && machine?.share != nil)
            }
        }
    }

    /// Why mode `files` is less than it seems, where nobody declared it: there it's what was left.
    var filesWarning: String? {
        guard mode == nil, let machine, !possibleModes.contains(.module) else { return nil }
        let missing = [machine.agent == nil ? "agent" : nil, machine.share == nil ? "share" : nil].compactMap { $0 }
        return "in mode files, as its machine has no xHCI controller, and its declaration no "
            + "\(missing.joined(separator: " and no ")): endpoint files don't work inside a virtual machine; "
            + "add -device qemu-xhci,id=xhci to its command line, or declare that for mode module"
    }

    /// The mode of a load.
    /// - Parameters:
    ///   - asked: what the request says, `auto` and nil as declared.
    ///   - modes: what the guest's connector can, the best first.
    /// - Throws: `malformed` for a mode that there isn't, `conflict` for one that the guest can't be loaded in.
    func mode(asked: String?, among modes: [GuestMode]) throws(Problem) -> GuestMode {
        let wanted = try GuestFields(guest: name).mode(asked) ?? mode
        let possible = possibleModes
        guard let mode = wanted ?? modes.first(where: possible.contains), modes.contains(mode) else {
            throw Problem(
                .conflict,
                "connector \(connector) has no such mode for guest \(name)",
                remedy: "load it with mode auto, or one of \(modes.map(\.rawValue).joined(separator: ", "))"
            )
        }
        guard possible.contains(mode) else {
            if mode == .usbip {
                throw Problem(
                    .conflict, "guest \(name) has mode usbip, and nothing says how its clients find it",
                    remedy: "declare it with an address (--listen) or with who it is at the shared listeners (--client)"
                )
            }
            let field = machine?.agent == nil ? "agent" : "share"
            throw GuestFields(guest: name).missing(field, of: "mode \(mode.rawValue)", .conflict)
        }
        return mode
    }

    /// Whether its machine sees its directory through an exporter.
    var isExported: Bool { machine?.share != nil }

    /// Where its connector finds it.
    /// - Parameter process: what the guest was bound to when it was loaded.
    func place(process: GuestProcess?) -> GuestPlace {
        GuestPlace(process: process, monitorSocket: machine?.qmp, agentSocket: machine?.agent)
    }

    /// How its kernel sees its directory; nil where it doesn't.
    /// - Parameter mount: where /vusb is on this host.
    func share(mount: String) -> GuestShare? {
        guard let machine else { return GuestShare(kind: .host, path: "\(mount)/guests/\(name)") }
        return machine.share
    }

    /// The file `hcd` as its kernel sees it.
    func channelPath(mount: String) -> String? { share(mount: mount).map { $0.path + "/hcd" } }
}
