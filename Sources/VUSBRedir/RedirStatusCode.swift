// SPDX-License-Identifier: Apache-2.0

internal import CUSBRedirParser
internal import VUSBCore

/// A status byte of the protocol.
struct RedirStatusCode: RawRepresentable, Equatable {
    let rawValue: UInt8

    static let success = RedirStatusCode(usb_redir_success)
    static let cancelled = RedirStatusCode(usb_redir_cancelled)
    static let invalid = RedirStatusCode(usb_redir_inval)
    static let ioError = RedirStatusCode(usb_redir_ioerror)
    static let stall = RedirStatusCode(usb_redir_stall)
    static let timeout = RedirStatusCode(usb_redir_timeout)
    static let babble = RedirStatusCode(usb_redir_babble)

    init(rawValue: UInt8) { self.rawValue = rawValue }

    private init(_ value: Int) { rawValue = UInt8(truncatingIfNeeded: value) }

    /// How a URB that ended so is told of. What has no code of its own is an I/O error.
    init(_ status: URBStatus) {
        self =
            switch status {
            case .success, .partial, .shortNotOK: .success
            case .cancelled: .cancelled
            case .noEndpoint, .invalid, .tooLong, .notSupported: .invalid
            case .stall: .stall
            case .timedOut: .timeout
            case .babble: .babble
            default: .ioError
            }
    }
}
