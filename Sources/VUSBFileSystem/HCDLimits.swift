// SPDX-License-Identifier: Apache-2.0

internal import CVUSBShims
internal import VUSBCore

/// What one channel may hold, so that a guest can't exhaust the host's memory.
enum HCDLimits {
    /// URBs submitted and not completed.
    static let urbs = Int(VUSB_MAX_URBS)
    /// Bytes that they ask for; as many as one device may have in flight.
    static let bytes = VirtualDevice.bytesInFlightLimit
    /// Bytes of one URB's data.
    static let transfer = Int(VUSB_MAX_TRANSFER)
    static let packets = Int(VUSB_MAX_ISO_PACKETS)
    static let name = Int(VUSB_MAX_NAME)
    /// Bytes of an OUT transfer above which it keeps the buffer that its write was read into. Such a buffer has 2 MiB:
    /// the credit must bound these, too.
    static let keptData = 256 << 10
    /// The longest that a read waits, in microseconds.
    static let wait: UInt32 = 60_000_000
    /// How long one waits that comes before the guest's hello, in microseconds.
    static let greetingWait: UInt32 = 1_000_000
    /// Openers that have closed and whose URBs haven't all ended: each has slots of its own.
    static let endingSessions = 4
    /// Pings whose answer wasn't read.
    static let pings = 64
    /// Records other than completions that weren't read.
    static let controlRecords = 16_384
    /// Devices that the guest was told of and hasn't let go of.
    static let devices = 4096
}

/// A rule that the guest broke, in words for a log.
struct HCDViolation: Error, Equatable {
    let rule: String
    init(_ rule: String) { self.rule = rule }
}
