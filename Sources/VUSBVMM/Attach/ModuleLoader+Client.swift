// SPDX-License-Identifier: Apache-2.0

package import VUSBCore

/// Makes a guest ready to attach devices from inside: A2 to A6 of Attach.md.
extension ModuleLoader {
    /// The modules that `modprobe vhci-hcd` brings, besides those that others use as well.
    static let clientModules = ["usbip_core", "vhci_hcd"]
    /// For a program that answers at once, but for the network.
    static let toolLimit = Duration.seconds(30)

    /// On a failure what was done is undone.
    /// - Parameters:
    ///   - before: what an earlier load has brought.
    ///   - step: told what is being done, for people.
    package func loadClient(
        _ addresses: [AttachAddress], helper: AttachHelper, before: LoadedModules?, step: @Sendable (String) -> Void
    ) async throws(USBError) -> AttachLoad {
        let facts = try await during("ask the guest") { () async throws(USBError) in
            let copy = before?.helperPath ?? ""
            let answer = try await kernel.ask(
                GuestScript.attachFacts, named: "vusb-attach-facts-1", [copy], limit: .seconds(30))
            return try AttachFacts(answer, guest: kernel.description)
        }
        let streams = facts.streams(to: addresses)
        guard !streams.isEmpty else { throw Self.noStream(addresses) }
        var done = LoadedModules(bootID: facts.kernel.bootID, modules: [])
        do throws(USBError) {
            if !facts.hasVHCI { try await loadVHCI(facts, &done, step: step) }
            let way = try await findWay(streams, facts, helper, before, &done, step: step)
            return AttachLoad(loaded: done, way: way)
        } catch {
            throw await undo(done, because: error)
        }
    }

    // MARK: - Steps

    /// A4
    private func loadVHCI(
        _ facts: AttachFacts, _ done: inout LoadedModules, step: @Sendable (String) -> Void
    ) async throws(USBError) {
        guard facts.kernel.isRoot else {
            throw USBError(
                .accessDenied, "ask the guest: what runs there for us isn't root",
                remedy: "run the guest's agent as root")
        }
        step("loading vhci-hcd")
        // Before: where it's cut short in the middle, a part may be there.
        done.modules = Self.clientModules.filter { facts.kernel.module($0) == nil }
        let result = try await during("load vhci-hcd") { () async throws(USBError) in
            try await kernel.shell(GuestScript.loadVHCI, [], limit: .seconds(60))
        }
        guard !result.succeeded else { return }
        let said = PlainText.lastLines(result.errors)
        throw USBError(
            .notFound, "load vhci-hcd: \(said.isEmpty ? "the kernel \(facts.kernel.release) has none" : said)",
            remedy: "install the kernel's modules in the guest (Debian: the kernel without -cloud; Ubuntu: "
                + "linux-modules-extra; Fedora: kernel-modules-extra), or use mode redirect"
        )
    }

    /// A5, A6
    private func findWay(
        _ streams: [AttachStream], _ facts: AttachFacts, _ helper: AttachHelper, _ before: LoadedModules?,
        _ done: inout LoadedModules, step: @Sendable (String) -> Void
    ) async throws(USBError) -> AttachWay {
        if let path = facts.helper {
            return try await choosing(AttachWay(program: .helper(path), streams: streams), step: step)
        }
        if let path = facts.usbip {
            let own = AttachWay(program: .usbip(path), streams: streams)
            // Where it doesn't do, the helper may.
            if let way = await answering(own) {
                step("by its usbip, over \(way.streams[0])")
                return way
            }
        }
        let path = try await copy(helper, facts, before, &done, step: step)
        return try await choosing(AttachWay(program: .helper(path), streams: streams), step: step)
    }

    private func choosing(
        _ way: AttachWay, step: @Sendable (String) -> Void
    ) async throws(USBError) -> AttachWay {
        guard let found = await answering(way) else {
            guard !Task.isCancelled else { throw USBError(.cancelled, "cancelled") }
            throw USBError(
                .notFound, "look for vusbd from inside: nothing answers at \(Self.text(way.streams))",
                remedy: "see that the guest's network, firewall or vsock let it through")
        }
        step("by vusb-attach, over \(Self.text(found.streams))")
        return found
    }

    /// With the first stream that answers, or the serial ports, which aren't asked; nil where there is none.
    private func answering(_ way: AttachWay) async -> AttachWay? {
        for stream in way.streams where way.takes(stream) && !stream.isSerial {
            guard !Task.isCancelled else { return nil }
            // Why not is of no interest where another one does.
            let result = try? await kernel.run(way.path, way.listArguments(stream), limit: Self.toolLimit)
            if result?.succeeded == true { return AttachWay(program: way.program, streams: [stream]) }
        }
        let ports = way.streams.filter { $0.isSerial && way.takes($0) }
        return ports.isEmpty ? nil : AttachWay(program: way.program, streams: ports)
    }

    // MARK: - Failures

    private static func noStream(_ addresses: [AttachAddress]) -> USBError {
        let isOpen = addresses.contains { if case .tls = $0 { false } else { true } }
        return USBError(
            .unsupported, "find a stream: the guest has none to where vusbd listens for it",
            remedy: !isOpen
                ? "let it be known at a shared listener that has no TLS"
                : "give its machine a network, a vsock device, or a serial port (-device "
                    + "virtserialport,chardev=usbip,name=\(AttachFacts.portPrefix)0)")
    }

    private static func text(_ streams: [AttachStream]) -> String {
        streams.map(\.description).joined(separator: ", ")
    }
}
