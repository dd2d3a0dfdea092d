// SPDX-License-Identifier: Apache-2.0

import Synchronization

// A keyboard's URBs, between the source and the guest: KeyboardChord.md, K20 to K30.
extension VirtualDevice {
    /// Ends a URB on its way down with a report that waits for one (K22).
    /// - Returns: whether it has.
    func fill(_ urb: inout URB, from keyboard: KeyboardFilter) -> Bool {
        guard urb.endpoint == keyboard.endpoint, case .transfer = urb.operation, let report = keyboard.next() else {
            return false
        }
        urb.take(report)
        return true
    }

    /// Looks at what the source has brought.
    /// - Returns: whether the URB is the guest's now; else the source is to get it again.
    func filter(_ urb: inout URB, by keyboard: KeyboardFilter) -> Bool {
        guard urb.endpoint == keyboard.endpoint, case .transfer = urb.operation else { return true }
        switch urb.status {
        case .success, .shortNotOK:
            switch keyboard.received(urb.report) {
            case .passes: return true
            case .carries(let report):
                urb.take(report)
                return true
            case .again: break
            }
        case .cancelled:
            // Who of the guest and the filter has wished it first the table knows (K25).
            guard state.withLock({ $0.table.isWanted(urb.token) }) else { return true }
            guard let report = keyboard.next() else { break }
            urb.take(report)
            return true
        default: return true
        }
        // K20, K24, K28
        let goesOn = state.withLock { state in
            if case .closed = state.admission { return false }
            guard state.table.again(urb.token) else { return false }
            state.callsBelow += 1
            return true
        }
        if !goesOn { urb.empty() }
        return !goesOn
    }

    /// Reports wait, and all URBs may be at the source: has it give one back (K23). Where there is none, the next that
    /// is submitted gets them; where one is on its way there, its submitter looks again.
    func deliverReports() {
        guard let keyboard, keyboard.hasReports else { return }
        let token: URBToken? = state.withLock { state in
            // A device that is closed has no calls any more.
            if case .closed = state.admission { return nil }
            let token = state.table.firstInFlight(on: keyboard.endpoint)
            if token != nil { state.callsBelow += 1 }
            return token
        }
        guard let token else { return }
        backend.cancel(token)
        callsReturned(1)
    }
}

extension URB {
    /// What has come in. Not for the data path of anything fast.
    fileprivate var report: [UInt8] {
        switch buffer {
        case .some(let buffer):
            buffer.withBytes(count: min(actualLength, buffer.capacity)) { span in span.indices.map { span[$0] } }
        case .none: []
        }
    }
}
