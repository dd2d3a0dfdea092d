// SPDX-License-Identifier: Apache-2.0

internal import Dispatch
internal import Glibc
internal import Synchronization

/// Counts SIGTERM and SIGINT: the first one stops the daemon, which the service group sees to; the next ones hurry it.
///
/// Concurrency model: the sources run on one serial queue; the count is an `Atomic`.
final class StopSignals: @unchecked Sendable {
    // SAFETY: the sources are only made and cancelled; Dispatch lets any thread do that.
    private let sources: [any DispatchSourceSignal]
    private let count = Atomic(0)

    init(first: @escaping @Sendable () -> Void, next: @escaping @Sendable () -> Void) {
        let queue = DispatchQueue(label: "vusb.signals")
        sources = [SIGTERM, SIGINT].map { DispatchSource.makeSignalSource(signal: $0, queue: queue) }
        for source in sources {
            source.setEventHandler { [weak self] in
                guard let self else { return }
                if count.add(1, ordering: .relaxed).oldValue == 0 { first() } else { next() }
            }
            source.activate()
        }
    }

    deinit { for source in sources { source.cancel() } }
}
