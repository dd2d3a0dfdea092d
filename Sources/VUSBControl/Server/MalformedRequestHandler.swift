// SPDX-License-Identifier: Apache-2.0

import HTTPTypes
import HummingbirdCore
import NIOCore
import NIOHTTP1
import NIOHTTPTypes

/// Gives bytes that aren't HTTP the same kind of answer as everything else.
///
/// Hummingbird answers what its parser refuses with an empty 400 and closes; this puts the problem into it. What the
/// parser takes but HTTP's types don't (an odd method, say) it would drop without a word: reported as a parser's error,
/// it gets the same answer.
///
/// Concurrency model: a channel's handler, used by its event loop alone.
final class MalformedRequestHandler: ChannelDuplexHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPRequestPart
    typealias OutboundIn = HTTPResponsePart
    typealias OutboundOut = HTTPResponsePart

    private var isMalformed = false

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        switch error {
        case is HTTPParserError:
            isMalformed = true
            context.fireErrorCaught(error)
        case is IOError, is ChannelError:
            context.fireErrorCaught(error)
        default:
            isMalformed = true
            context.fireErrorCaught(HTTPParserError.unknown)
        }
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        guard isMalformed, case .head(let head) = unwrapOutboundIn(data), head.status == .badRequest,
            head.headerFields[.contentLength] == "0"
        else {
            context.write(data, promise: promise)
            return
        }
        isMalformed = false
        writeProblem(context: context, promise: promise)
    }

    private func writeProblem(context: ChannelHandlerContext, promise: EventLoopPromise<Void>?) {
        let problem = Problem(.malformed, "this isn't an HTTP/1.1 request")
        var response = Answer.problem(problem)
        response.headers[.connection] = "close"
        let body: ByteBuffer
        do {
            body = try Answer.bytes(problem)
        } catch {
            body = ByteBuffer()  // Strings and a number always encode.
        }
        context.write(wrapOutboundOut(.head(response.head)), promise: nil)
        context.write(wrapOutboundOut(.body(body)), promise: promise)
    }
}
