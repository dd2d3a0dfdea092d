// SPDX-License-Identifier: Apache-2.0

internal import NIOCore
internal import VUSBCore

/// Asks a server for its list.
///
/// Concurrency model: the loop's thread.
final class USBIPOfferConnection: ChannelInboundHandler, @unchecked Sendable {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let limit: Duration
    private let answered = USBIPOutcome<Result<USBIPOfferList, USBError>>()
    // SAFETY: from here on all is the loop's thread's.
    private var reader = USBIPListReader()
    private var timer: Scheduled<Void>?
    private var context: ChannelHandlerContext?

    private init(_ limit: Duration) { self.limit = limit }

    /// - Parameter limit: for the connection, and then for the list.
    static func offers(
        of server: USBIPServer, within limit: Duration, _ group: any EventLoopGroup
    ) async throws(USBError) -> USBIPOfferList {
        let asking = try await USBIPConnector(group: group, limit: limit).connect(server) { _ in
            USBIPOfferConnection(limit)
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
            finish(.failure(USBError(.timedOut, "the list doesn't end")))
        }
    }

    func handlerRemoved(context: ChannelHandlerContext) { self.context = nil }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        do throws(USBIPServerFault) {
            let bytes = unwrapInboundIn(data)
            guard let offers = try reader.take(bytes.readableBytesSpan) else { return }
            finish(.success(offers))
        } catch {
            finish(.failure(USBError(error.code, "\(error)")))
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        finish(
            .failure(USBError(.io, "the server has closed the connection before it has said what it has")))
    }

    private func finish(_ result: Result<USBIPOfferList, USBError>) {
        timer?.cancel()
        answered.settle(result)
        context?.close(promise: nil)
    }
}
