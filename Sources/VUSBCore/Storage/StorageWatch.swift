// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// Watches what a guest's driver does with a mass-storage device, and knows whether all that was written is on the
/// medium. It only looks at URBs that pass, and sends none. See StorageWatch.md.
///
/// Concurrency model: `VirtualDevice` calls it from the threads that submit and complete. All state is in one `Mutex`, a
/// leaf, which is held while bytes are looked at and across no call out.
final class StorageWatch: Sendable {
    private let tracker: Mutex<StorageTracker>

    /// Nil for a device that isn't mass storage, or whose transport can't be followed.
    init?(_ descriptors: Descriptors, _ settings: ActiveSettings) {
        guard let tracker = StorageTracker(descriptors, settings) else { return nil }
        self.tracker = Mutex(tracker)
    }

    var state: StorageState { tracker.withLock { $0.state } }

    /// The URB was accepted, and the backend hasn't got it yet: the last moment at which what it sends can be seen
    /// before the device acts on it.
    func willSubmit(_ urb: borrowing URB) {
        guard urb.direction == .out, urb.endpoint.number != 0 else { return }
        let transfer = StorageTracker.Transfer(urb, length: urb.requestedLength)
        tracker.withLock { tracker in
            guard tracker.watches(urb.endpoint) else { return }
            urb.withFirstBytes(urb.requestedLength) { bytes in
                tracker.willSend(transfer, bytes, at: { .now })
            }
        }
    }

    /// The backend has given the URB back, and its handler hasn't got it yet: the guest can't go on from it before this
    /// is known.
    func didComplete(_ urb: borrowing URB) {
        guard urb.endpoint.number != 0 else { return controlCompleted(urb) }
        let succeeded = urb.status == .success || urb.status == .shortNotOK
        guard urb.direction == .out || succeeded else { return }
        let transfer = StorageTracker.Transfer(urb, length: urb.actualLength)
        tracker.withLock { tracker in
            guard tracker.watches(urb.endpoint) else { return }
            urb.withFirstBytes(urb.actualLength) { bytes in
                if urb.direction == .in {
                    tracker.received(transfer, bytes)
                } else {
                    tracker.sent(transfer, succeeded: succeeded, bytes)
                }
            }
        }
    }

    func deviceWasReset() { tracker.withLock { $0.deviceWasReset() } }

    private func controlCompleted(_ urb: borrowing URB) {
        guard urb.status == .success else { return }
        let operation = urb.operation
        let setup = urb.setup
        tracker.withLock { tracker in
            switch operation {
            case .setConfiguration(let value): tracker.configurationChanged(value)
            case .setInterface(let interface, let alternate):
                tracker.interfaceChanged(interface, alternate: alternate)
            case .transfer: if let setup { tracker.controlSucceeded(setup) }
            case .clearHalt: break
            }
        }
    }
}

extension StorageTracker.Transfer {
    fileprivate init(_ urb: borrowing URB, length: Int) {
        self.init(endpoint: urb.endpoint, token: urb.token, length: length, streamID: urb.streamID)
    }
}

extension URB {
    /// As many as are looked at. Without a buffer there are none.
    fileprivate borrowing func withFirstBytes(_ count: Int, _ body: (borrowing Span<UInt8>) -> Void) {
        switch buffer {
        case .some(let buffer):
            buffer.withBytes(count: max(0, min(count, buffer.capacity, StorageTracker.dataLimit))) { body($0) }
        case .none: body(Span())
        }
    }
}
