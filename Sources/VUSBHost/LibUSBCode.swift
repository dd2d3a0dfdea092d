// SPDX-License-Identifier: Apache-2.0

import CLibUSB
import VUSBCore

/// What libusb's functions return, `LIBUSB_ERROR_...`, and what becomes of it.
enum LibUSBCode {
    static let noDevice = LIBUSB_ERROR_NO_DEVICE.rawValue
    static let notFound = LIBUSB_ERROR_NOT_FOUND.rawValue
    static let busy = LIBUSB_ERROR_BUSY.rawValue

    static func name(_ code: Int32) -> String {
        // SAFETY: libusb's names are constants.
        unsafe String(cString: libusb_error_name(code))
    }

    /// For a URB that couldn't be submitted, or a blocking operation that stands behind one.
    static func status(_ code: Int32) -> URBStatus {
        switch code {
        case 0: .success
        case LIBUSB_ERROR_NO_DEVICE.rawValue: .noDevice
        case LIBUSB_ERROR_BUSY.rawValue: .busy
        case LIBUSB_ERROR_NO_MEM.rawValue: .noMemory
        case LIBUSB_ERROR_NOT_FOUND.rawValue: .noEndpoint
        case LIBUSB_ERROR_PIPE.rawValue: .stall
        case LIBUSB_ERROR_OVERFLOW.rawValue: .babble
        case LIBUSB_ERROR_TIMEOUT.rawValue: .timedOut
        case LIBUSB_ERROR_ACCESS.rawValue: .accessDenied
        case LIBUSB_ERROR_INVALID_PARAM.rawValue: .invalid
        case LIBUSB_ERROR_INTERRUPTED.rawValue: .again
        case LIBUSB_ERROR_NOT_SUPPORTED.rawValue: .notSupported
        default: .io
        }
    }

    /// For a transfer's end.
    /// - Parameter cancelled: what it is where the transfer was cancelled: by its submitter, or by a reset.
    static func status(_ status: libusb_transfer_status, cancelled: URBStatus) -> URBStatus {
        switch status {
        case LIBUSB_TRANSFER_COMPLETED: .success
        case LIBUSB_TRANSFER_TIMED_OUT: .timedOut
        case LIBUSB_TRANSFER_CANCELLED: cancelled
        case LIBUSB_TRANSFER_STALL: .stall
        case LIBUSB_TRANSFER_NO_DEVICE: .noDevice
        case LIBUSB_TRANSFER_OVERFLOW: .babble
        // libusb has one word for all that goes wrong on the wire.
        case LIBUSB_TRANSFER_ERROR: .protocolError
        default: .io
        }
    }

    static func error(_ code: Int32, _ what: String, remedy: String? = nil) -> USBError {
        let kind: USBError.Code =
            switch code {
            case LIBUSB_ERROR_NO_DEVICE.rawValue: .gone
            case LIBUSB_ERROR_NOT_FOUND.rawValue: .notFound
            case LIBUSB_ERROR_BUSY.rawValue: .busy
            case LIBUSB_ERROR_ACCESS.rawValue: .accessDenied
            case LIBUSB_ERROR_TIMEOUT.rawValue: .timedOut
            case LIBUSB_ERROR_INVALID_PARAM.rawValue: .invalid
            case LIBUSB_ERROR_NOT_SUPPORTED.rawValue: .unsupported
            default: .io
            }
        return USBError(kind, "\(what): \(name(code))", remedy: remedy)
    }
}
