// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl
internal import VUSBCore

extension Problem {
    /// What broke on the host's side while something was done with an object.
    init(_ error: USBError, while doing: String) {
        let remedy = error.remedy ?? Self.remedy(for: error.code)
        self.init(Self.code(for: error.code), "\(doing): \(error.message)", remedy: remedy)
    }

    /// What broke in a guest, or at a server: what is invalid there isn't what was asked for.
    init(ofGuest error: USBError, while doing: String) {
        let code = error.code == .invalid ? .io : error.code
        self.init(USBError(code, error.message, remedy: error.remedy), while: doing)
    }

    private static func code(for code: USBError.Code) -> Code {
        switch code {
        case .notFound, .gone: .notFound
        case .busy: .busy
        case .accessDenied: .denied
        case .invalid: .malformed
        case .unsupported: .conflict
        case .timedOut: .timedOut
        default: .failed
        }
    }

    private static func remedy(for code: USBError.Code) -> String? {
        switch code {
        case .gone: "plug it in again"
        case .busy: "end what uses it on the host, then try again"
        case .accessDenied: "run vusbd as root, or install udev-rules/60-vusb.rules and join group vusb"
        default: nil
        }
    }
}
