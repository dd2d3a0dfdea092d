// SPDX-License-Identifier: Apache-2.0

/// What breaks on the host's side. The message names the object, the remedy says what to do about it.
package struct USBError: Error, Sendable {
    /// What kind of thing went wrong; a struct so that more can come.
    package struct Code: Hashable, Sendable, CustomStringConvertible {
        private enum Value: String {
            case notFound, busy, accessDenied, gone, invalid, unsupported, timedOut, cancelled, io
        }
        private let value: Value
        private init(_ value: Value) { self.value = value }

        package static let notFound = Code(.notFound)
        package static let busy = Code(.busy)
        package static let accessDenied = Code(.accessDenied)
        package static let gone = Code(.gone)
        package static let invalid = Code(.invalid)
        package static let unsupported = Code(.unsupported)
        package static let timedOut = Code(.timedOut)
        /// The task was cancelled.
        package static let cancelled = Code(.cancelled)
        package static let io = Code(.io)

        package var description: String { value.rawValue }
    }

    package let code: Code
    package let message: String
    package let remedy: String?

    package init(_ code: Code, _ message: String, remedy: String? = nil) {
        self.code = code
        self.message = message
        self.remedy = remedy
    }
}

extension USBError: CustomStringConvertible {
    package var description: String { remedy.map { "\(message); \($0)" } ?? message }
}
