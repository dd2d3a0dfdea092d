// SPDX-License-Identifier: Apache-2.0

/// A failure as RFC 9457 has it (`application/problem+json`), with the remedy.
package struct Problem: Codable, Error, Sendable, Equatable {
    /// `urn:vusb:problem:CODE`.
    package var type: String
    package var title: String
    /// The HTTP status.
    package var status: Int
    /// Names the object.
    package var detail: String
    /// What to do about it.
    package var remedy: String?
    /// What an ambiguous name may have meant.
    package var candidates: [String]?

    package init(
        _ code: Code, _ detail: String, remedy: String? = nil, candidates: [String]? = nil
    ) {
        type = "urn:vusb:problem:" + code.rawValue
        title = code.title
        status = code.status
        self.detail = detail
        self.remedy = remedy
        self.candidates = candidates
    }

    /// What kinds there are. `vusbctl` derives its exit code from the status.
    package enum Code: String, Sendable, CaseIterable {
        case malformed
        case denied
        case notFound = "not-found"
        case methodNotAllowed = "method-not-allowed"
        case ambiguous
        case conflict
        case busy
        case tooLarge = "too-large"
        case unsupportedMediaType = "unsupported-media-type"
        case cancelled
        case timedOut = "timed-out"
        case failed
        case unavailable

        package var status: Int {
            switch self {
            case .malformed: 400
            case .denied: 403
            case .notFound: 404
            case .methodNotAllowed: 405
            case .ambiguous, .conflict, .busy, .cancelled: 409
            case .tooLarge: 413
            case .unsupportedMediaType: 415
            case .timedOut: 504
            case .failed: 500
            case .unavailable: 503
            }
        }

        package var title: String {
            switch self {
            case .malformed: "The request is malformed"
            case .denied: "Not allowed"
            case .notFound: "No such thing"
            case .methodNotAllowed: "Not a method of this path"
            case .ambiguous: "More than one device fits"
            case .conflict: "Not possible in this state"
            case .busy: "In use"
            case .tooLarge: "The request is too large"
            case .unsupportedMediaType: "Not JSON"
            case .cancelled: "Cancelled"
            case .timedOut: "Timed out"
            case .failed: "Failed on the host"
            case .unavailable: "Not available now"
            }
        }
    }

    package var code: Code? { Code(rawValue: String(type.dropFirst("urn:vusb:problem:".count))) }
}
