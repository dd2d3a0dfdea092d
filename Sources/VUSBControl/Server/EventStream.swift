// SPDX-License-Identifier: Apache-2.0

import HTTPTypes
import Hummingbird
import NIOCore
import ServiceLifecycle

/// `GET /v1/events`: events as they happen, as server-sent events (HTML Living Standard, 9.2).
///
/// The stream ends when the client hangs up, when the server stops, and when the client doesn't read for so long that
/// `backlog` events wait for it; a client then comes back with the last number it saw.
enum EventStream {
    /// How many events may wait for a slow client.
    static let backlog = 1024
    private static let lastEventID = HTTPField.Name("Last-Event-ID")

    private enum Item: Sendable {
        case event(EventInfo)
        case heartbeat
    }

    @Sendable static func respond(_ call: Call) async throws(Problem) -> Response {
        let events = await call.service.events(after: try start(call))
        let body = ResponseBody { writer in
            // A comment, so that the client sees at once that it's connected.
            try await writer.write(ByteBuffer(string: ": vusb\n\n"))
            do {
                try await call.request.body.consumeWithCancellationOnInboundClose { _ in
                    try await send(events, to: &writer, call)
                }
            } catch is CancellationError {
                // The client hung up: that's how these streams end.
            }
            try await writer.finish(nil)
        }
        let fields: HTTPFields = [
            .contentType: "text/event-stream", .cacheControl: "no-store", .connection: "close",
        ]
        return Response(status: .ok, headers: fields, body: body)
    }

    /// Where to begin: the header wins, since a browser's client sends it when it reconnects to the same URL.
    private static func start(_ call: Call) throws(Problem) -> UInt64? {
        let after = try call.integer("after", as: Int.self)
        guard let name = lastEventID, let text = call.request.headers[name] else { return after.map(UInt64.init) }
        guard let last: Int = Rules.integer(text) else {
            throw Problem(.malformed, "header Last-Event-ID isn't an event's number")
        }
        return UInt64(last)
    }

    private static func send(
        _ events: AsyncStream<EventInfo>, to writer: inout any ResponseBodyWriter, _ call: Call
    ) async throws {
        let (items, source) = AsyncStream<Item>.makeStream(bufferingPolicy: .bufferingOldest(backlog))
        let feeding = Task {
            await withTaskGroup { group in
                group.addTask {
                    // Nothing less ends a write that waits for a client who doesn't read.
                    if await !forward(events, to: source) { call.channel.close(promise: nil) }
                }
                group.addTask { await beat(every: call.heartbeat, to: source) }
                await group.next()
                group.cancelAll()
                source.finish()
            }
        }
        defer { feeding.cancel() }
        try await withGracefulShutdownHandler {
            for await item in items { try await writer.write(text(item)) }
        } onGracefulShutdown: {
            source.finish()
        }
    }

    /// - Returns: whether the client kept up until the events ended.
    private static func forward(
        _ events: AsyncStream<EventInfo>, to source: AsyncStream<Item>.Continuation
    ) async -> Bool {
        for await event in events {
            if case .dropped = source.yield(.event(event)) { return false }
        }
        return true
    }

    private static func beat(every interval: Duration, to source: AsyncStream<Item>.Continuation) async {
        while !Task.isCancelled {
            do {
                try await Task.sleep(for: interval)
            } catch {
                return  // Cancelled: the stream is over.
            }
            source.yield(.heartbeat)
        }
    }

    private static func text(_ item: Item) throws(Problem) -> ByteBuffer {
        guard case .event(let event) = item else { return ByteBuffer(string: ": still here\n\n") }
        // A line end in the type would begin a field of its own; JSON escapes those in the data.
        let type = String(String.UnicodeScalarView(event.type.unicodeScalars.filter { !Rules.isControl($0) }))
        var text = ByteBuffer(string: "id: \(event.sequence)\nevent: \(type)\ndata: ")
        text.writeImmutableBuffer(try Answer.bytes(event))
        text.writeString("\n\n")
        return text
    }
}
