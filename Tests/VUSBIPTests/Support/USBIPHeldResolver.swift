// SPDX-License-Identifier: Apache-2.0

import NIOCore
import NIOPosix
import Synchronization
import VUSBTestSupport

/// Resolves names when a test says so.
final class USBIPHeldResolver: Resolver, Sendable {
    /// The names.
    let asked = Inbox<String>()
    private let loop = MultiThreadedEventLoopGroup.singleton.next()
    private let promise: EventLoopPromise<[SocketAddress]>

    init() { promise = loop.makePromise() }

    func initiateAQuery(host: String, port: Int) -> EventLoopFuture<[SocketAddress]> {
        asked.append(host)
        return promise.futureResult
    }

    func initiateAAAAQuery(host: String, port: Int) -> EventLoopFuture<[SocketAddress]> {
        loop.makeSucceededFuture([])
    }

    func cancelQueries() {}

    func answer(_ address: SocketAddress) { promise.succeed([address]) }
}
