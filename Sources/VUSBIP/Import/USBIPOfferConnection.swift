// SPDX-License-Identifier: Apache-2.0

internal import NIOCore
internal import VUSBCore

/// Asks a server for its list.
///
/// Concurrency model: the loop's thread.
final class USBIPOfferConnection: ChannelInboundHandler, @unchecked Sendable {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let server: USBIPServer
    private let limit: Duration
    private let answered = USBIPOutcome<Result<[USBIPOffer], USBError>>()
    // SAFETY: from here on all is the loop's thread's.
    private var reader = USBIPListReader()
    private var timer: Scheduled<Void>?
    private var context: ChannelHandlerContext?

    private init(_ server: USBIPServer, _ limit: Duration) {
        self.server = server
        self.limit = limit
    }

    /// - Parameter limit: for the connection, and then for the list.
    static func offers(
        of server: USBIPServer, within limit: Duration, _ group: any EventLoopGroup
    ) async throws(USBError) -> [USBIPOffer] {
        let asking = try await USBIPConnector(group: group, limit: limit).connect(server) { _ in
            USBIPOfferConnection(server, limit)
        }
        return try await asking.answered.value().get()
    }

    func handlerAdded(context: ChannelHandlerContext) {
        guard context.channel.isActive else { return channelInactive(context: context) }
        var request = context.channel.allocator.buffer(capacity: USBIPNumbers.operationBytes)
        request.writeMultipleIntegers(USBIPNumbers.version, USBIPNumbers.requestList, UInt32(0))
        context.writeAndFlush(wrapOutboundOut(request), promise: nil)
        self.context = context
        timer = context.eventLoop.scheduleTask(in: TimeAmount(limit)) { [self] in
            finish(.failure(USBError(.timedOut, "\(server): the list doesn't end")))
        }
    }

    func handlerRemoved(context: ChannelHandlerContext) { self.context = nil }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        do throws(USBIPServerFault) {
            let bytes = unwrapInboundIn(data)
            guard let offers = try reader.take(bytes.readableBytesSpan) else { return }
            finish(.success(offers))
        } catch {
            finish(.failure(USBError(error.code, "\(server): \(error)")))
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        finish(
            .failure(USBError(.io, "\(server): the server has closed the connection before it has said what it has")))
    }

    private func finish(_ result: Result<[USBIPOffer], USBError>) {
        timer?.cancel()
        answered.settle(result)
        context?.close(promise: nil)
    }
}
