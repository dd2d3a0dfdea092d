// SPDX-License-Identifier: Apache-2.0

/// How a URB ended: zero, or a negative errno with the meaning that the kernel gives it
/// (Documentation/driver-api/usb/error-codes.rst). Fronts map it to what their peer expects.
package struct URBStatus: RawRepresentable, Hashable, Sendable {
    package let rawValue: Int32

    package init(rawValue: Int32) { self.rawValue = rawValue }

    package static let success = URBStatus(rawValue: 0)
    /// -EIO: the host failed in a way that has no better name.
    package static let io = URBStatus(rawValue: -5)
    /// -EAGAIN: the source can't take it now; try again.
    package static let again = URBStatus(rawValue: -11)
    /// -ENOENT: no such endpoint in the settings in force.
    package static let noEndpoint = URBStatus(rawValue: -2)
    /// -ENOMEM: no buffer, or the source's limit of memory in flight is reached.
    package static let noMemory = URBStatus(rawValue: -12)
    /// -EACCES: the device isn't this guest's.
    package static let accessDenied = URBStatus(rawValue: -13)
    /// -EBUSY: draining, or held by another.
    package static let busy = URBStatus(rawValue: -16)
    /// -EXDEV: an isochronous transfer only partly completed; see its packets.
    package static let partial = URBStatus(rawValue: -18)
    /// -ENODEV: the device was unplugged.
    package static let noDevice = URBStatus(rawValue: -19)
    /// -EINVAL: malformed.
    package static let invalid = URBStatus(rawValue: -22)
    /// -EPIPE: the endpoint stalled.
    package static let stall = URBStatus(rawValue: -32)
    /// -ETIME: no answer within the bus' turn-around time.
    package static let noResponse = URBStatus(rawValue: -62)
    /// -EPROTO: bit stuffing, no response in time, or another error of the wire.
    package static let protocolError = URBStatus(rawValue: -71)
    /// -EOVERFLOW: the device sent more than asked for (babble).
    package static let babble = URBStatus(rawValue: -75)
    /// -EILSEQ: a checksum that didn't fit, or no answer in time.
    package static let checksumError = URBStatus(rawValue: -84)
    /// -EMSGSIZE: longer than may be asked for at once.
    package static let tooLong = URBStatus(rawValue: -90)
    /// -EOPNOTSUPP: the source can't do this.
    package static let notSupported = URBStatus(rawValue: -95)
    /// -ECONNRESET: cancelled by its submitter.
    package static let cancelled = URBStatus(rawValue: -104)
    /// -ESHUTDOWN: the endpoint was disabled by a change of configuration or alternate setting, or a reset.
    package static let shutdown = URBStatus(rawValue: -108)
    /// -ETIMEDOUT.
    package static let timedOut = URBStatus(rawValue: -110)
    /// -EREMOTEIO: fewer bytes than asked for, and the URB said short is not ok.
    package static let shortNotOK = URBStatus(rawValue: -121)
}
