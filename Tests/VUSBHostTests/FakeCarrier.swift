// SPDX-License-Identifier: Apache-2.0

import Synchronization
import VUSBCore
import VUSBTestSupport

@testable import VUSBHost

/// Plays libusb for one transfer: tests decide when it ends, and what happens inside its calls.
final class FakeCarrier: TransferCarrier {
    struct State {
        var transfer: HostTransfer?
        var isSubmitted = false
        var submissions = 0
        var cancels = 0
        var discards = 0
        /// What comes back of the next completion.
        var result: (URBStatus, Int)?
        var refusal: URBStatus?
        var submitCode: Int32 = 0
        /// Run inside `submit` and `cancel`, as other threads would.
        var duringSubmit: (@Sendable () -> Void)?
        var duringCancel: (@Sendable () -> Void)?
    }

    let state = Mutex(State())
    /// A transfer that is cancelled ends at once.
    let endsOnCancel: Bool

    init(endsOnCancel: Bool = true) { self.endsOnCancel = endsOnCancel }

    func prepare(_ urb: borrowing URB, for transfer: HostTransfer) -> URBStatus? {
        state.withLock { state in
            state.transfer = transfer
            return state.refusal
        }
    }

    func submit() -> Int32 {
        let (code, action) = state.withLock { state in
            if state.submitCode == 0 {
                state.isSubmitted = true
                state.submissions += 1
            }
            return (state.submitCode, state.duringSubmit)
        }
        action?()
        return code
    }

    func cancel() {
        let action = state.withLock { state in
            state.cancels += 1
            return state.duringCancel
        }
        action?()
        if endsOnCancel { complete(nil) }
    }

    func collect(_ urb: inout URB, cancelled: URBStatus) -> (status: URBStatus, actualLength: Int) {
        state.withLock { $0.result } ?? (cancelled, 0)
    }

    func discard() { state.withLock { $0.discards += 1 } }

    /// Ends the transfer, if it is in flight; nil for a cancelled one.
    func complete(_ result: (URBStatus, Int)?) {
        let transfer: HostTransfer? = state.withLock { state in
            guard state.isSubmitted else { return nil }
            state.isSubmitted = false
            state.result = result
            return state.transfer
        }
        transfer?.completed()
    }
}

/// The carriers that a table made, in order.
final class CarrierFactory: Sendable {
    private let made = Mutex<[FakeCarrier]>([])
    private let endsOnCancel: Bool

    init(endsOnCancel: Bool = true) { self.endsOnCancel = endsOnCancel }

    func makeTable() -> TransferTable {
        TransferTable { _ in
            let carrier = FakeCarrier(endsOnCancel: self.endsOnCancel)
            self.made.withLock { $0.append(carrier) }
            return carrier
        }
    }

    var carriers: [FakeCarrier] { made.withLock { $0 } }
}

/// A backend that is nothing but a table: what `VirtualDevice` needs to give out tokens.
final class TableBackend: USBBackend {
    let table: TransferTable
    init(_ table: TransferTable) { self.table = table }
    func submit(_ urb: consuming URB) { table.submit(urb) }
    func cancel(_ token: URBToken) { table.cancel(token) }
    func reset() async throws(USBError) {}
    func close() async {
        _ = table.close(TransferTable.allEndpoints, refusing: .noDevice, ending: .cancelled, limit: .seconds(20))
        table.dispose()
    }
}
