// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import VUSBCore

/// What goes wrong with a QMP socket, in words that name it and say what to do.
enum QMPError {
    /// No connection came about.
    static func connecting(_ failure: LineSocket.Failure, _ path: String) -> USBError {
        switch failure {
        case .cancelled: return USBError(.cancelled, "cancelled while connecting to QEMU at \(path)")
        case .timedOut, .failed(EAGAIN):
            return USBError(
                .busy,
                "QEMU doesn't greet at \(path): its socket takes one client at a time and another one has it, or QEMU hangs",
                remedy: "give vusbd a QMP socket of its own: start QEMU with one more "
                    + "-qmp unix:PATH,server=on,wait=off and name that one"
            )
        case .closed:
            return USBError(.gone, "QEMU closed \(path) before it greeted", remedy: "look into QEMU's own log")
        case .failed(let code): return connecting(errno: code, path)
        }
    }

    private static func connecting(errno code: Int32, _ path: String) -> USBError {
        switch code {
        case ENOENT, ECONNREFUSED:
            USBError(
                .notFound,
                code == ENOENT ? "there is no socket \(path)" : "nobody listens at \(path)",
                remedy: "start the VM with -qmp unix:\(path),server=on,wait=off, or correct the path"
            )
        case EACCES, EPERM:
            USBError(
                .accessDenied, "vusbd may not open \(path)",
                remedy: "let vusbd's user write to the socket and enter its directory")
        case ENAMETOOLONG:
            USBError(.invalid, "the path \(path) is too long for a socket", remedy: "use one of at most 107 bytes")
        case EPROTO, EMSGSIZE, EPROTOTYPE:
            USBError(
                .invalid, "what answers at \(path) isn't QMP",
                remedy: "name the socket of -qmp, not that of a console, a monitor for people or the guest agent")
        default: USBError(.io, "connecting to QEMU at \(path) failed with errno \(code)")
        }
    }

    /// A connection that stood has ended.
    static func lost(_ failure: LineSocket.Failure, _ path: String) -> USBError {
        switch failure {
        case .closed, .cancelled, .timedOut, .failed(ECONNRESET): USBError(.gone, "QEMU closed \(path)")
        case .failed(EMSGSIZE): USBError(.gone, "QEMU's line at \(path) was too long; the connection was closed")
        case .failed(EPROTO):
            USBError(.gone, "QEMU said something at \(path) that isn't QMP; the connection was closed")
        case .failed(ENOBUFS):
            USBError(.gone, "QEMU tells more at \(path) than vusbd takes; the connection was closed")
        case .failed(let code): USBError(.gone, "the connection to QEMU at \(path) broke with errno \(code)")
        }
    }

    static func refused(_ refusal: QMPRefusal, _ path: String) -> USBError {
        let code: USBError.Code =
            switch refusal.errorClass {
            case "CommandNotFound": .unsupported
            case "DeviceNotFound": .notFound
            default: .io
            }
        return USBError(code, "QEMU at \(path) says: \(refusal.text) (\(refusal.errorClass))")
    }

    static func timedOut(_ command: String, _ path: String, _ limit: Duration) -> USBError {
        USBError(
            .timedOut, "QEMU at \(path) didn't answer \(command) within \(limit)",
            remedy: "look whether the QEMU process is stopped or hangs")
    }

    static func cancelled(_ command: String) -> USBError { USBError(.cancelled, "\(command) was cancelled") }
}
