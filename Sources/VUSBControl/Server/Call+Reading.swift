// SPDX-License-Identifier: Apache-2.0

import NIOCore

extension Call {
    /// The body as JSON.
    func message<Message: RequestMessage>(_ type: Message.Type) throws(Problem) -> Message {
        try StrictJSON.decode(type, from: body)
    }

    /// The body as JSON, or the default if there was none.
    func message<Message: RequestMessage>(_ type: Message.Type, default none: Message) throws(Problem) -> Message {
        body.readableBytes == 0 ? none : try message(type)
    }

    func guest() throws(Problem) -> String { try Rules.guestName(parameters["guest"] ?? "") }

    func claim() throws(Problem) -> String { try Rules.guestName(parameters["claim"] ?? "", "claim") }

    func device() throws(Problem) -> String { try Rules.deviceName(parameters["device"] ?? "") }

    func operation() throws(Problem) -> Int {
        let text = parameters["id"] ?? ""
        guard let id: Int = Rules.integer(text), id >= 1 else {
            throw Problem(.malformed, "'\(Rules.shortened(text))' isn't an operation's number")
        }
        return id
    }

    /// A non-negative integer of the query.
    func integer<Value: FixedWidthInteger>(_ name: String, as type: Value.Type) throws(Problem) -> Value? {
        guard let text = query[name] else { return nil }
        guard let value: Value = Rules.integer(text) else {
            throw Problem(.malformed, "query parameter '\(name)' isn't an integer from 0 on")
        }
        return value
    }

    /// Seconds, of the query.
    func seconds(_ name: String, within range: ClosedRange<Double>) throws(Problem) -> Double? {
        guard let text = query[name] else { return nil }
        // `Double` also reads hexadecimal, `inf` and `nan`; JSON's numbers have none of them.
        guard let value = Double(text), text.utf8.allSatisfy({ "0123456789.eE+-".utf8.contains($0) }) else {
            throw Problem(.malformed, "query parameter '\(name)' isn't a number")
        }
        try Rules.within(range, value, "query parameter '\(name)'")
        return value
    }
}
