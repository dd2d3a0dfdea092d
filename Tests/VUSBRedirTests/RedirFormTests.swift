// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing
import VUSBCore
import VUSBTestSupport

@testable import VUSBRedir

@Suite("redirect: forms of messages")
struct RedirFormTests {
    private func take(_ framing: inout RedirFraming, _ bytes: [UInt8]) -> Bool { framing.take(bytes.span) }

    @Test("a message is counted through, however it's cut", arguments: [12, 16])
    func framing(headerLength: Int) {
        var framing = RedirFraming()
        framing.headerLength = headerLength
        // Type 101, 5 bytes.
        let header: [UInt8] = [101, 0, 0, 0, 5, 0, 0, 0] + Array(repeating: 0, count: headerLength - 8)
        #expect(framing.isBetweenMessages && framing.left == headerLength)
        #expect(take(&framing, Array(header.prefix(5))))
        #expect(!framing.isBetweenMessages && framing.left == headerLength - 5)
        #expect(take(&framing, Array(header.dropFirst(5))))
        #expect(framing.left == 5)
        #expect(take(&framing, [1, 2]))
        #expect(!framing.isBetweenMessages && framing.left == 3)
        #expect(take(&framing, [3, 4, 5]))
        #expect(framing.isBetweenMessages)
        // One without a body.
        #expect(take(&framing, [3, 0, 0, 0, 0, 0, 0, 0] + Array(repeating: 0, count: headerLength - 8)))
        #expect(framing.isBetweenMessages)
    }

    @Test("a message that is too long is found at the end of its header")
    func tooLong() {
        var framing = RedirFraming()
        #expect(take(&framing, [101, 0, 0, 0, 0, 0, 0, 1] + [0, 0, 0, 0]))
        framing = RedirFraming()
        #expect(!take(&framing, [101, 0, 0, 0, 1, 0, 0, 1] + [0, 0, 0, 0]))
    }

    private static let bulk = RedirTransfer(id: 0x1_0203_0405, kind: .bulk(streamID: 7), endpoint: 0x81, length: 9)

    private func bytes(_ header: RedirHeader) -> [UInt8] { (0..<header.count).map { header.bytes[$0] } }

    @Test("a bulk answer's header in each form, byte by byte")
    func bulkHeader() {
        let length = 0x12_3456
        let short = RedirHeader(answering: Self.bulk, .stall, length: 0x3456, dataCount: 2, RedirForm())
        #expect(
            bytes(short) == [
                101, 0, 0, 0, 10, 0, 0, 0, 5, 4, 3, 2,  // type, length, id
                0x81, 4, 0x56, 0x34, 7, 0, 0, 0,  // endpoint, status, length, stream
            ])
        let long = RedirHeader(
            answering: Self.bulk, .success, length: length, dataCount: length,
            RedirForm(hasLongIDs: true, hasLongBulk: true))
        #expect(
            bytes(long) == [
                101, 0, 0, 0, 0x60, 0x34, 0x12, 0, 5, 4, 3, 2, 1, 0, 0, 0,
                0x81, 0, 0x56, 0x34, 7, 0, 0, 0, 0x12, 0,  // the upper half of the length behind the stream
            ])
    }

    @Test("no header is longer than what a slot has room for")
    func longest() {
        let setup = SetupPacket(bmRequestType: 0x80, bRequest: 6, wValue: 1, wIndex: 2, wLength: 3)
        let form = RedirForm(hasLongIDs: true, hasLongBulk: true)
        for kind in [RedirTransfer.Kind.control(setup), .bulk(streamID: 1), .interrupt] {
            let transfer = RedirTransfer(id: .max, kind: kind, endpoint: 0x81, length: 1)
            let header = RedirHeader(answering: transfer, .success, length: 1, dataCount: 1, form)
            #expect(header.count <= RedirHeader.longest)
        }
        for kind in [RedirStream.Kind.isochronous, .interrupt, .bulk] {
            let wish = RedirStreamWish(kind: kind, endpoint: 0x81)
            let stream = RedirStream(wish, address: EndpointAddress(rawValue: 0x81), size: 8, generation: 1)
            let header = RedirHeader(of: stream, id: .max, .success, dataCount: 8, form)
            #expect(header.count <= RedirHeader.longest)
            if kind == .isochronous { #expect(header.count == RedirHeader.isochronousLength(form)) }
        }
    }

    @Test("vectors leave out what was sent, wherever that ends", arguments: 0...12)
    func vectors(sent: Int) {
        // Two pieces of 4 and 8 bytes.
        let memory = UnsafeMutableRawPointer.allocate(byteCount: 12, alignment: 1)
        let vectors = UnsafeMutablePointer<iovec>.allocate(capacity: RedirLimits.vectors)
        var filler = unsafe RedirVectors(vectors, skip: sent)
        unsafe filler.add(memory, 4)
        unsafe filler.add(memory + 4, 8)
        var rest = 0
        for index in 0..<filler.count { rest += unsafe vectors[index].iov_len }
        #expect(rest == 12 - sent)
        let isAtNext = unsafe sent == 12 || vectors[0].iov_base == memory + sent
        #expect(isAtNext)
        unsafe vectors.deallocate()
        unsafe memory.deallocate()
    }

    @Test("slots: each is given once, and comes back with another serial")
    func slots() throws {
        var slots = RedirSlots()
        let taken = slots.take(.setConfiguration(id: 1), .filling)
        let first = try #require(taken)
        let serial = slots[first].serial
        var others: [Int] = []
        while let index = slots.take(.setConfiguration(id: 2), .filling) { others.append(index) }
        #expect(Set(others + [first]).count == RedirLimits.urbs)
        let all = slots.inUse
        slots.release(first)
        // Twice does nothing.
        slots.release(first)
        let rest = slots.inUse
        #expect(all == RedirLimits.urbs)
        #expect(rest == RedirLimits.urbs - 1)
        let again = slots.take(.setConfiguration(id: 3), .filling)
        let newSerial = slots[first].serial
        #expect(again == first)
        #expect(newSerial != serial)
    }
}
