// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import ServiceLifecycle
internal import VUSBControl
internal import VUSBFileSystem

/// Brings the guests up once the control socket answers, says that the daemon is ready, and stays until it is to stop.
struct GuestService: Service {
    let plane: ControlPlane
    let saved: SavedState
    let configured: [ConfiguredGuest]
    let claims: [ClaimSpec]
    let focus: [FocusSet]
    let imports: [ImportSpec]
    let listening: Gate
    let ready: @Sendable (DaemonStatus) -> Void

    func run() async throws {
        // Not awaited here: a stop in the middle of it cancels its operations, and then it ends by itself.
        let restoring = Task {
            await listening.wait()
            // The gate lets go also where the control socket couldn't be had: nobody is ready then.
            guard !Task.isCancelled else { return }
            await plane.restore(saved, configured: configured, claims: claims, focus: focus, imports: imports)
            guard await plane.phase == .running else { return }
            ready(await plane.status())
        }
        do {
            try await gracefulShutdown()
        } catch {
            // Another service has failed: what is to be undone is undone after the group's end.
            restoring.cancel()
        }
    }
}

/// Ends the daemon when somebody unmounts /vusb under it.
struct MountWatch: Service {
    let front: FileSystemFront
    let logger: Logger

    func run() async throws {
        let gone = Gate()
        let watch = Task {
            await front.ended()
            gone.open()
        }
        await withGracefulShutdownHandler {
            await gone.wait()
        } onGracefulShutdown: {
            gone.open()
        }
        watch.cancel()
        let isOurs = Task.isShuttingDownGracefully || Task.isCancelled
        if !isOurs { logger.notice("unmounted by somebody else, stopping") }
    }
}
