// SPDX-License-Identifier: Apache-2.0

/// Why there's no answer of the daemon. Names the socket and the remedy.
package struct ClientError: Error, CustomStringConvertible {
    package enum Code: Sendable, Equatable {
        /// Nobody serves the socket.
        case notRunning
        /// The socket's file can't be opened by this user.
        case denied
        /// The daemon took the request but didn't answer in time.
        case silent
        /// The connection ended in the middle.
        case interrupted
        /// An answer that isn't of this interface.
        case garbled
    }

    package var code: Code
    package var description: String
    package var cause: (any Error)?

    init(_ code: Code, _ description: String, cause: (any Error)? = nil) {
        self.code = code
        self.description = description
        self.cause = cause
    }
}
