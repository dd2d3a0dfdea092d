// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import VUSBCharDevice
internal import VUSBControl
internal import VUSBCore
internal import VUSBVMM

/// Character nodes of guests in mode `files` that have `nodes`, and what their containers are told. CharDevice.md and
/// SysfsView.md have the rules.
extension ControlPlane {
    /// Whether the guest's devices get nodes, as it's loaded now.
    func hasNodes(_ guest: String) -> Bool {
        guard let entry = guestRegistry[guest] else { return false }
        return entry.definition.hasNodes && entry.loadedMode == .files
    }

    /// - Throws: where this host can't have nodes.
    func checkNodes(of name: String, _ mode: GuestMode) throws(Problem) {
        guard mode == .files, guestRegistry[name]?.definition.hasNodes == true else { return }
        // Whether the mount is one in which nodes work was settled when vusbd started.
        let obstacle =
            nodes.map(\.obstacle)
            ?? USBError(
                .unsupported, "there was no /dev/cuse when vusbd started",
                remedy: "load it with 'modprobe cuse', and start vusbd again")
        guard let obstacle else { return }
        throw Problem(obstacle, while: "load of guest \(name), which is to have character nodes")
    }

    /// Containers' rules name the guest's major number: it's settled before there is a device, and stays.
    func settleMajor(of name: String) {
        guard hasNodes(name), let nodes else { return }
        do {
            let major = try nodes.major(of: name)
            change(name) { $0.nodeMajor = major }
        } catch {
            logger.warning("guest has no major number", metadata: ["guest": "\(name)", "error": "\(error)"])
        }
    }

    func restoreMajors(_ saved: [SavedState.Major]) {
        for entry in saved where guestRegistry[entry.guest] != nil {
            guard nodes?.restore(entry.major, of: entry.guest) != false else { continue }
            change(entry.guest) { $0.nodeMajor = entry.major }
        }
    }

    /// The node of a device that is being attached.
    func node(for slot: GuestSlot, _ device: VirtualDevice, of guest: String) throws(USBError) -> (any NodePort)? {
        guard hasNodes(guest), let nodes else { return nil }
        let node = try nodes.serve(slot, of: guest, device: device)
        change(guest) { $0.nodeMajor = node.number.major }
        return node
    }

    // MARK: - What containers are told

    /// From now on the programs in the guest's network are told of its devices.
    func prepareTelling(_ name: String, operation: Int) {
        tellers[name] = nil
        guard hasNodes(name), let nodes, let process = guestRegistry[name]?.process else { return }
        do {
            tellers[name] = try nodes.teller(inNetworkOf: Int(process.pid))
        } catch {
            // All else works without it: programs see what is there when they begin.
            operationLog.step(operation, "programs aren't told what comes and goes: \(error.message)")
        }
    }

    func tellOfArrival(_ attachment: Attachment) {
        guard attachment.node != nil else { return }
        tell(tree.arrival(path: attachment.path, of: attachment.guest), attachment.guest)
    }

    /// - Parameter events: what `departure` said while the device was there.
    func tell(_ events: [Uevent], _ guest: String) {
        guard let teller = tellers[guest], !events.isEmpty else { return }
        do {
            try teller.send(events)
        } catch {
            logger.warning("programs not told", metadata: ["guest": "\(guest)", "error": "\(error)"])
        }
    }

    // MARK: - News

    func listenToNodes() {
        guard let stream = nodes?.events() else { return }
        pumps.append(
            Task {
                for await event in stream { self.handle(event) }
            }
        )
    }

    private func handle(_ event: CharDeviceEvent) {
        guard case .lost = event.kind,
            let attachment = attached(to: event.guest).first(where: { $0.path == event.path })
        else { return }
        tellOfChannel(event.guest, "\(event.path): the kernel has ended its character node")
        Task { await self.giveUp(attachment, because: "the kernel has ended its character node") }
    }
}

extension Attachment {
    /// Who uses its node, by process; nil where nobody does.
    var nodeUsers: String? {
        guard let status = node?.status, status.isInUse else { return nil }
        let processes = status.openers.filter(\.isInUse).map { $0.process == 0 ? "one unseen" : "\($0.process)" }
        return "process\(processes.count == 1 ? "" : "es") \(processes.joined(separator: ", "))"
    }
}
