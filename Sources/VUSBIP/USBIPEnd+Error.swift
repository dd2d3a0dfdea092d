// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import NIOCore
internal import NIOSSL

extension USBIPEnd {
    /// What NIO has said before the end; nil for nothing.
    init(_ error: (any Error)?) {
        switch error {
        case nil: self = .closed
        case let error as IOError:
            switch error.errnoCode {
            case ECONNRESET, EPIPE: self = .reset
            case ETIMEDOUT, EHOSTUNREACH, ENETUNREACH: self = .vanished
            default: self = .failed("\(error)")
            }
        // Whether a peer says goodbye makes no difference.
        case NIOSSLError.uncleanShutdown?, ChannelError.eof?: self = .closed
        case let error?: self = .failed("\(error)")
        }
    }
}
