// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl
internal import VUSBCore
internal import VUSBIP
internal import VUSBRedir
internal import VUSBVMM

/// Mode `redirect`: a guest's machine plugs devices into a controller of its own, each served at a socket. Redirect.md
/// has the steps.
extension ControlPlane {
    // MARK: - Load

    /// Whether a guest whose mode is `auto` gets it so: its machine has the right controller, and nothing was brought
    /// into its kernel that serves it already.
    func suitsRedirect(_ name: String, operation: Int) async throws(Problem) -> Bool {
        guard let guest = guestRegistry[name], guest.modules == nil, redirect != nil,
            connectors[guest.definition.connector]?.modes.contains(.redirect) == true
        else { return false }
        let found = await controllers(of: name)
        try checkGoing(name, operation)
        do {
            return try found.get().contains { $0.kind == .xhci }
        } catch {
            throw Problem(error, while: "load of guest \(name)")
        }
    }

    private func controllers(of name: String) async -> Result<[GuestController], USBError> {
        guard let guest = guestRegistry[name], let connector = connectors[guest.definition.connector] else {
            return .failure(USBError(.notFound, "no guest \(name)"))
        }
        return await ask(name, for: tools.times.plug) { () async throws(USBError) in
            try await connector.controllers(of: name)
        }
    }

    /// Takes away what an earlier vusbd left plugged in, and looks whether there is a controller.
    func bringUpRedirect(_ name: String, operation: Int) async throws(Problem) {
        guard let guest = guestRegistry[name], let connector = connectors[guest.definition.connector] else { return }
        let doing = "load of guest \(name)"
        let leftovers = await ask(name, for: tools.times.plug) { () async throws(USBError) in
            try await connector.unplugLeftovers(of: name, named: name + ".")
        }
        try checkGoing(name, operation)
        do {
            let count = try leftovers.get()
            if count > 0 { operationLog.step(operation, "unplugged \(count) of an earlier vusbd's") }
            let controllers = try await controllers(of: name).get()
            try checkGoing(name, operation)
            guard !controllers.isEmpty else { throw connector.missingController(of: name) }
            operationLog.step(operation, "controllers: " + controllers.map(\.text).joined(separator: ", "))
        } catch let error as USBError {
            throw Problem(error, while: doing)
        } catch {
            throw (error as? Problem) ?? Problem(.failed, "\(doing): \(error)")
        }
    }

    // MARK: - Attach

    /// Has the guest's machine plug in a device that is served at its socket.
    func plug(_ attachment: Attachment, operation: Int) async throws(Problem) {
        guard let port = attachment.redirect, let connector = connector(of: attachment) else { return }
        let (name, id) = (attachment.guest, attachment.record.id)
        let wish = PlugWish(speed: attachment.record.speed, wantsStreams: attachment.record.descriptors.haveStreams)
        let answer = await ask(name, for: tools.times.plug) { () async throws(USBError) in
            try await connector.hotplug(
                name, port: attachment.controllerPort, wish: wish, socketPath: port.socketPath)
        }
        try checkGoing(name, operation)
        do {
            let place = try answer.get()
            operationLog.step(operation, "plugged \(id) into \(place.text)")
        } catch {
            let doing = "attach of device \(id) to guest \(name)"
            // QEMU finds no socket: somebody was there before it.
            if error.code == .notFound, port.status.state != .waiting {
                throw Problem(
                    .failed, "\(doing): another process than its QEMU has connected to \(port.socketPath) first",
                    remedy: "see who else runs as the guest's owner, and give each guest an owner of its own")
            }
            throw Problem(error, while: doing)
        }
        try await awaitHello(attachment, port, operation: operation)
    }

    /// A machine that is paused says nothing, and sees the device when it runs again.
    private func awaitHello(_ attachment: Attachment, _ port: any RedirectPort, operation: Int) async throws(Problem) {
        let (name, id) = (attachment.guest, attachment.record.id)
        guard await isUp(name) else {
            return operationLog.step(operation, "the guest is paused: it sees \(id) when it runs")
        }
        let limit = tools.times.greeting
        let answer = await ask(name, for: limit + .seconds(1)) { await port.waitForHello(within: limit) }
        try checkGoing(name, operation)
        // Where it has closed the connection, `publish` finds that.
        guard case .success(let status) = answer, [.waiting, .greeting].contains(status.state) else { return }
        operationLog.step(operation, "the guest's machine hasn't said hello yet")
    }

    /// - Throws: where the guest's side has ended the connection.
    func checkIsServed(_ attachment: Attachment) throws(Problem) {
        guard let port = attachment.redirect, port.isOver else { return }
        let reason = port.status.reason ?? "its machine has closed the connection"
        throw Problem(
            .failed, "attach of device \(attachment.record.id) to guest \(attachment.guest): \(reason)",
            remedy: "see in QEMU's own messages why, or give the guest another controller or filter"
        )
    }

    private func connector(of attachment: Attachment) -> (any VMMConnector)? {
        guestRegistry[attachment.guest].flatMap { connectors[$0.definition.connector] }
    }

    // MARK: - Detach

    /// The guests' machines let go of devices that are drained. A machine needs no time for it, but where it hangs: then
    /// it isn't asked, since it would do it when it goes on, whatever was said here meanwhile.
    /// - Throws: `busy` where one doesn't and nothing is to be cut.
    func unplug(
        _ attachments: [Attachment], _ release: Release, until deadline: ContinuousClock.Instant, operation: Int
    ) async throws(Problem) {
        guard attachments.contains(where: { $0.redirect != nil }) else { return }
        operationLog.step(operation, "unplugging")
        let limit = min(max(deadline - .now, tools.times.cutOff), tools.times.unplug)
        if release.onDeadline == .refuse { try await checkAnswers(of: attachments, within: limit) }
        for (attachment, failure) in await failures(unplugging: attachments, within: limit) {
            guard release.onDeadline == .cancel else {
                throw Problem(
                    .busy, "guest \(attachment.guest) doesn't let go of \(attachment.record.id): \(failure.message)",
                    remedy: "see whether its machine runs; or cut it off: vusbctl's --cancel, onDeadline: cancel")
            }
            operationLog.step(operation, "\(attachment.record.id) is cut off: \(failure.message)")
        }
    }

    private func checkAnswers(of attachments: [Attachment], within limit: Duration) async throws(Problem) {
        for name in Set(attachments.filter { $0.redirect != nil }.map(\.guest)).sorted() {
            guard let guest = guestRegistry[name], !guest.isGone, let connector = connectors[guest.definition.connector]
            else { continue }
            let answer = await ask(name, for: limit + .seconds(1)) { () async throws(USBError) in
                try await connector.checkAnswers(name, within: limit)
            }
            guard case .failure(let error) = answer, error.code != .gone else { continue }
            throw Problem(
                .busy, "nothing was taken from guest \(name): \(error.message)",
                remedy: "see whether its machine runs; or cut it off: vusbctl's --cancel, onDeadline: cancel")
        }
    }

    private func failures(
        unplugging attachments: [Attachment], within limit: Duration
    ) async -> [(Attachment, USBError)] {
        await withTaskGroup(of: (Attachment, USBError)?.self) { group in
            for attachment in attachments {
                group.addTask {
                    await self.unplug(attachment, within: limit).map { (attachment, $0) }
                }
            }
            var failures: [(Attachment, USBError)] = []
            for await failure in group { if let failure { failures.append(failure) } }
            return failures
        }
    }

    /// - Returns: why the machine hasn't let go; nil too where there is no machine any more.
    private func unplug(_ attachment: Attachment, within limit: Duration) async -> USBError? {
        // Also where the connection has ended by itself: the machine has the device yet.
        guard let port = attachment.redirect, let connector = connector(of: attachment),
            guestRegistry[attachment.guest]?.isGone == false
        else { return nil }
        return await shielded { () -> USBError? in
            do throws(USBError) {
                try await connector.hotunplug(attachment.guest, port: attachment.controllerPort, within: limit)
                port.end()
                return nil
            } catch {
                return error.code == .gone ? nil : error
            }
        }
    }

    /// The end of a redirected device, whatever its guest's machine does.
    func cutOff(_ attachment: Attachment) async {
        await attachment.usbip?.end()
        guard let port = attachment.redirect else { return }
        // Why it isn't let go of changes nothing any more.
        _ = await unplug(attachment, within: tools.times.cutOff)
        port.end()
    }

    // MARK: - News

    func listenToRedirect() {
        guard let stream = redirect?.events() else { return }
        pumps.append(
            Task {
                for await event in stream { self.handle(event) }
            }
        )
    }

    private func handle(_ event: RedirEvent) {
        tellOfChannel(event.guest, event.text)
        // None yet where it's being attached: that fails by itself.
        guard let attachment = deviceRegistry.attachments(of: event.guest).first(where: { $0.path == event.path })
        else {
            return
        }
        if case .connected = event.kind { return }
        guard case .attached = deviceRegistry[attachment.record.id]?.holder else { return }
        Task { await self.giveUp(attachment) }
    }

    /// The guest's side has gone, and its monitor may be about to tell why.
    func giveUp(_ attachment: Attachment, because cause: String? = nil) async {
        let (name, id) = (attachment.guest, attachment.record.id)
        await sleep(tools.times.monitor, with: name)
        guard phase == .running, guestRegistry[name]?.isGone == false,
            case .attached(let current)? = deviceRegistry[id]?.holder, current.device === attachment.device
        else { return }
        let operation = begin(.detach, guest: name, device: id)
        mark([attachment], by: operation)
        _ = run(operation) { (plane, operation) async throws(Problem) in
            let reason =
                cause ?? attachment.redirect?.status.reason ?? "its machine has closed the connection"
            plane.operationLog.step(operation, reason)
            await plane.cut([attachment], operation: operation)
            await plane.persist()
            plane.noteLoss(of: name)
            return nil
        }
    }
}

extension RedirEvent {
    fileprivate var text: String {
        switch kind {
        case .connected(let peer): "\(path): hello from \(quoted(peer))"
        case .rejected(let reason): "\(path): not taken: \(reason)"
        case .closed(nil): "\(path): closed by the guest's machine"
        case .closed(let violation?): "\(path): cut off: \(violation)"
        }
    }
}

extension Attachment {
    /// Its name in the guest's machine, which another guest of this vusbd may be declared with as well.
    var controllerPort: ControllerPort { ControllerPort("\(guest).\(path)") }
}

extension GuestController {
    fileprivate var text: String {
        let free = freePorts.map { ", \($0) free" } ?? ""
        return "\(bus) (\(kind.rawValue)\(free))"
    }
}

extension PluggedPort {
    fileprivate var text: String { port.map { "port \($0) of \(bus)" } ?? bus }
}
