// SPDX-License-Identifier: Apache-2.0

internal import CVUSBShims
internal import Dispatch
internal import Glibc
internal import VUSBCore

/// Tells when a process ends, by a pidfd: nothing is polled, and a process that got the number later isn't
/// mistaken for it.
///
/// Concurrency model: immutable. The descriptor is the dispatch source's, which closes it when cancelled.
final class ProcessWatch: @unchecked Sendable {
    // SAFETY: a dispatch source may be used by any thread; Dispatch's own interface just doesn't say so.
    private let source: any DispatchSourceRead

    /// - Parameter onEnd: called on `queue` when the process has ended, until `cancel`.
    /// - Throws: `notFound` where the process has ended already.
    init(_ process: GuestProcess, queue: DispatchQueue, onEnd: @escaping @Sendable () -> Void) throws(USBError) {
        let descriptor = CVUSBShims_pidfd_open(Int32(truncatingIfNeeded: process.pid))
        guard descriptor >= 0 else { throw Self.error(errno, process) }
        // Asked again with the descriptor in hand: from here on the number can't change its owner unseen.
        guard process.state != .off else {
            Glibc.close(descriptor)
            throw Self.error(ESRCH, process)
        }
        let source = DispatchSource.makeReadSource(fileDescriptor: descriptor, queue: queue)
        source.setEventHandler(handler: onEnd)
        source.setCancelHandler { Glibc.close(descriptor) }
        self.source = source
        source.activate()
    }

    func cancel() { source.cancel() }

    private static func error(_ code: Int32, _ process: GuestProcess) -> USBError {
        switch code {
        case ESRCH, EINVAL:
            USBError(.notFound, "process \(process.pid) has ended", remedy: "name a process that runs on this host")
        case EMFILE, ENFILE:
            USBError(
                .io,
                "no file descriptor left to watch process \(process.pid)",
                remedy: "raise vusbd's limit of open files (LimitNOFILE= in its unit)"
            )
        default:
            USBError(.io, "pidfd_open of process \(process.pid) failed with errno \(code)")
        }
    }
}
