// SPDX-License-Identifier: Apache-2.0

internal import Foundation
package import Logging
internal import ServiceLifecycle
internal import UnixSignals
internal import VUSBCharDevice
internal import VUSBControl
internal import VUSBCore
internal import VUSBEmulation
internal import VUSBFileSystem
internal import VUSBHost
internal import VUSBIP
internal import VUSBRedir
internal import VUSBVMM

/// The composition root: makes everything in order, runs it, and takes it down in the opposite order.
package struct Daemon: Sendable {
    /// How long URBs may take to end when the daemon stops.
    static let stopDeadline = Duration.seconds(5)

    let settings: DaemonSettings
    let notifier: SystemdNotifier
    let logger: Logger

    package init(_ settings: DaemonSettings, logger: Logger) {
        self.settings = settings
        self.logger = logger
        notifier = SystemdNotifier.fromEnvironment()
    }

    /// Returns after a clean stop.
    /// - Throws: `DaemonFailure`.
    package func run() async throws(DaemonFailure) {
        let files = OpenFileLimit.raise()
        logger.debug("limit of open files", metadata: ["files": "\(files ?? 0)"])
        do {
            let locks = try InstanceLocks(
                stateDirectory: settings.state,
                socket: settings.socket,
                mount: settings.mount
            )
            let outcome = await runLocked()
            locks.release()
            try outcome.get()
        } catch let failure as DaemonFailure {
            throw failure
        } catch {
            throw DaemonFailure("\(error)")
        }
    }

    /// A result and no throw: the locks are released either way, after all else.
    private func runLocked() async -> Result<Void, any Error> {
        do {
            let realTime = RealTimeStart(isWanted: settings.realtime, logger)
            let stateFile = StateFile(directory: settings.state)
            let saved = try stateFile.read(logger)
            try Directory.create(settings.images, mode: 0o700)
            // Settled here once and for all: a mount is `dev` only where nodes can be served.
            let tree = NodeTree(characterNodes: CharDeviceFront.obstacle() == nil ? .served : .pointers)
            let front = try FileSystemFront(
                options: FileSystemFront.Options(mountPoint: settings.mount, readers: settings.readers),
                tree: tree,
                logger: logger
            )
            let result: Result<Void, any Error>
            do {
                try front.start()
                result = await runMounted(tree: tree, front: front, saved: saved, stateFile, realTime)
            } catch {
                result = .failure(error)
            }
            await front.stop()
            return result
        } catch {
            return .failure(error)
        }
    }

    private func runMounted(
        tree: NodeTree, front: FileSystemFront, saved: SavedState, _ stateFile: StateFile, _ realTime: RealTimeStart
    ) async -> Result<Void, any Error> {
        let emulation = EmulationSource()
        let connectors: [any VMMConnector] = [LocalConnector(logger: logger), QEMUConnector(logger: logger)]
        let redirect: RedirFront
        let nodes: CharDeviceFront
        let usbip: USBIPFront
        let loops = USBIPLoopGuard()
        // Without a thread or a socket until something is imported.
        let imports = USBIPSource(loops: loops, logger: logger)
        do {
            redirect = try RedirFront(directory: settings.redirectDirectory, version: "vusb \(Version.current)")
            nodes = try CharDeviceFront()
            usbip = USBIPFront(loops: loops)
        } catch {
            return .failure(error)
        }
        let plane = ControlPlane(
            tree: tree,
            emulator: emulation,
            connectors: connectors,
            store: StateStore(stateFile, logger: logger),
            surroundings: surroundings(
                redirect, nodes, usbip, imports, hasNodes: tree.characterNodes == .served, realTime)
        )
        var sources: [any DeviceSource] = [emulation, imports]
        if settings.host { sources.append(HostSource(logger: logger)) }
        let signals = StopSignals {
            logger.notice("stopping")
            notifier.stopping()
        } next: {
            Task { await plane.hurry() }
        }
        defer { withExtendedLifetime(signals) {} }
        let result = await serve(plane, front, saved, sources, connectors)
        // Again: where all was quick, the signal's handler may not have come to it, and not every stop is a signal's.
        notifier.stopping()
        await plane.stop(deadline: Self.stopDeadline)
        await redirect.stop()
        await nodes.stop()
        await usbip.stop()
        for source in sources { await source.stop() }
        return result
    }

    private func serve(
        _ plane: ControlPlane, _ front: FileSystemFront, _ saved: SavedState, _ sources: [any DeviceSource],
        _ connectors: [any VMMConnector]
    ) async -> Result<Void, any Error> {
        do {
            for connector in connectors { await plane.listen(to: connector) }
            await plane.listenToChannels()
            await plane.listenToRedirect()
            await plane.listenToNodes()
            await plane.listenToUSBIP()
            try await plane.listen(at: settings.usbip)
            await plane.watch()
            for source in sources { await start(source, plane) }
            for specification in settings.emulate { _ = try await plane.plugIn(specification) }
            try await services(plane, front, saved).run()
            return .success(())
        } catch let problem as Problem {
            return .failure(DaemonFailure(problem.detail + (problem.remedy.map { "; \($0)" } ?? "")))
        } catch {
            return .failure(error)
        }
    }

    /// A source that can't work leaves the others' devices: `doctor` tells.
    private func start(_ source: any DeviceSource, _ plane: ControlPlane) async {
        do {
            try await plane.start(source)
        } catch {
            logger.error("source can't start", metadata: ["source": "\(source.name)", "error": "\(error)"])
        }
    }

    /// The last one is stopped first.
    private func services(_ plane: ControlPlane, _ front: FileSystemFront, _ saved: SavedState) -> ServiceGroup {
        let listening = Gate()
        let guests = GuestService(
            plane: plane,
            saved: saved,
            configured: settings.guests,
            claims: settings.claims,
            focus: settings.focus,
            imports: settings.imports,
            listening: listening,
            ready: { self.ready($0) }
        )
        var server = ControlServer(
            socketPath: settings.socket,
            mode: settings.socketMode,
            group: settings.socketGroup,
            service: plane,
            logger: logger,
            onListening: { listening.open() }
        )
        server.access = settings.access
        var quiet = logger
        quiet.logLevel = max(logger.logLevel, .warning)
        var configuration = ServiceGroupConfiguration(
            services: [
                .init(
                    service: MountWatch(front: front, logger: logger),
                    successTerminationBehavior: .gracefullyShutdownGroup
                ),
                .init(service: guests),
                .init(service: server),
            ],
            gracefulShutdownSignals: [.sigterm, .sigint],
            logger: quiet
        )
        configuration.maximumGracefulShutdownDuration = .seconds(15)
        return ServiceGroup(configuration: configuration)
    }

    private func ready(_ status: DaemonStatus) {
        func count(_ number: Int, _ what: String) -> String { "\(number) \(what)\(number == 1 ? "" : "s")" }
        let summary =
            "\(count(status.guests, "guest")), \(count(status.devices, "device")), \(status.attachments) attached"
        logger.notice("ready", metadata: ["mount": "\(settings.mount)", "socket": "\(settings.socket)"])
        notifier.ready(status: summary)
    }

    private func surroundings(
        _ redirect: RedirFront, _ nodes: CharDeviceFront, _ usbip: USBIPFront, _ imports: USBIPSource, hasNodes: Bool,
        _ realTime: RealTimeStart
    ) -> ControlPlane.Surroundings {
        let mount = settings.mount
        let group = settings.socketGroup
        return ControlPlane.Surroundings(
            pool: BufferPool(),
            facts: ControlPlane.Facts(
                version: Version.current,
                pid: Int(ProcessInfo.processInfo.processIdentifier),
                mount: mount,
                socket: settings.socket,
                imageDirectory: settings.images
            ),
            logger: logger,
            tools: ModuleTools(store: ModuleStore(directories: settings.modules)),
            exports: GuestExports(root: settings.exports, mount: mount),
            redirect: redirect,
            nodes: hasNodes ? nodes : nil,
            usbip: usbip,
            importer: imports,
            health: settings.health,
            modeRule: settings.auto,
            // The mount is this process's own: it must not ask itself.
            checks: { VUSBControl.HostChecks(mount: mount, group: group, probe: nil).findings() + realTime.findings() }
        )
    }
}
