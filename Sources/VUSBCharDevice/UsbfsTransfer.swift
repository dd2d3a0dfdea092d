// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import VUSBCore

/// What `VirtualDevice` is given for one URB of a caller, for a chain of them, or for a call that waits.
///
/// Concurrency model: it belongs to its session, whose `Mutex` guards it; the thread that is in `VirtualDevice.submit`
/// with it has its parts to itself (`submitting`), and those who answer from a completed one only read its buffer.
final class UsbfsTransfer: @unchecked Sendable {
    // SAFETY: see the concurrency model.
    enum Phase: Equatable {
        case free
        case gathering
        case queued
        /// In the line of those to be submitted.
        case ready
        case submitting(isCancelled: Bool)
        case inFlight(URBToken)
        case completed
    }

    /// How a cancelled one is told to its caller: as usb_kill_urb and usb_unlink_urb do, and as URBs end whose endpoint
    /// goes.
    enum Cancel: Equatable {
        case kill
        case unlink
        case shutdown

        var status: Int32 {
            switch self {
            case .kill: URBStatus.noEndpoint.rawValue
            case .unlink: URBStatus.cancelled.rawValue
            case .shutdown: URBStatus.shutdown.rawValue
            }
        }
    }

    /// What it's for.
    enum Purpose {
        /// URBs of the caller: the first and the last of them, by their slots.
        case urbs(first: Int, last: Int)
        case call(UsbfsWait, UsbfsCall)
    }

    let index: Int
    var phase = Phase.free
    var purpose = Purpose.urbs(first: -1, last: -1)
    /// Of the session's transfers, in the order of submission.
    var order: UInt64 = 0
    var endpoint = EndpointAddress.control
    var interface: UInt8?
    var isBulk = false
    var isContinuation = false
    var streamID: UInt16 = 0
    var flags: URB.Flags = []
    var setup: SetupPacket?
    var length = 0
    var isIn = false
    /// Bytes are zeroed before: of isochronous IN, gaps are shown.
    var buffer: TransferBuffer?
    var packets: IsoPacketTable?
    var cancel: Cancel?

    /// Why `VirtualDevice` didn't accept it.
    var refusal: URBStatus?
    /// Once completed.
    var urb: URB?
    /// Its URBs that aren't reaped.
    var unreaped = 0

    init(index: Int) { self.index = index }

    /// Nothing may be in it that others wait for.
    func clear() {
        phase = .free
        purpose = .urbs(first: -1, last: -1)
        interface = nil
        isBulk = false
        isContinuation = false
        streamID = 0
        flags = []
        setup = nil
        length = 0
        isIn = false
        cancel = nil
        refusal = nil
        unreaped = 0
    }

    var isPending: Bool { phase != .free && phase != .completed }
}

/// What a call that waits for a transfer wants of it.
enum UsbfsCall: Equatable {
    /// CONTROL, BULK: the count, and the data of an IN transfer.
    case data
    /// The status alone.
    case status
}

/// A request that isn't answered yet.
///
/// Concurrency model: it belongs to its session, whose `Mutex` guards it; who has taken it out of there has it alone.
final class UsbfsWait: @unchecked Sendable {
    // SAFETY: see the concurrency model.
    enum Kind: Equatable {
        case reap(UsbfsLayout, argument: UInt64)
        /// Of the URB with this order.
        case discard(UInt64)
        case transfer(Int)
        case reset
        case release
        /// Until what was cancelled with a claim has ended: what was submitted on that interface up to this order.
        case ending(interface: UInt8, order: UInt64)
        /// Until `resume`.
        case quiet(UsbfsCommand, argument: UInt64)

        /// What is done all the same isn't done a second time.
        var whenInterrupted: UsbfsEffects.Answer {
            switch self {
            case .discard, .ending: .result(0)
            case .reap, .transfer, .reset, .release, .quiet: .error(EINTR)
            }
        }
    }

    let request: UInt
    var kind: Kind
    /// Nil while it's being prepared.
    var reply: UsbfsReply?
    var isInterrupted = false
    var isOverTime = false
    var deadline: ContinuousClock.Instant?

    init(_ request: UInt, _ kind: Kind) {
        self.request = request
        self.kind = kind
    }
}
