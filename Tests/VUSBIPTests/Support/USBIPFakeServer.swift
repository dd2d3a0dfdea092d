// SPDX-License-Identifier: Apache-2.0

import Foundation
import Synchronization
import VUSBCore
import VUSBTestSupport

@testable import VUSBIP

/// A server that says what a test wants said. It has one device, and answers what is asked of its endpoint 0 as that does.
///
/// Concurrency model: a thread of its own accepts and answers, one connection after the other; what it's to do is in a `Mutex`.
final class USBIPFakeServer: Sendable {
    /// What an importer says: SUBMIT, or UNLINK with its target in `length`.
    struct Command: Sendable, Equatable {
        var command: UInt32
        var seqnum: UInt32
        var isIn: Bool
        var endpoint: UInt32
        var flags: UInt32
        var length: UInt32
        var packetCount: UInt32
        var interval: UInt32
        var setup: [UInt8]
        var data: [UInt8] = []
    }

    struct Behaviour: Sendable {
        var descriptors = DescriptorBytes.fullZero.bytes
        /// OP_REP_IMPORT; nil for silence.
        var answerImport: @Sendable ([UInt8]) -> [UInt8]? = { USBIPFakeServer.imported(busID: $0) }
        /// Requests that are answered by closing the connection, before any others.
        var drops = 0
        /// Of endpoint 0; nil for what a device says.
        var answerControl: @Sendable (Command) -> [UInt8]? = { _ in nil }
        /// Bytes in one write; all for nil.
        var piece: Int?
        /// Behind the next header nothing is read any more.
        var isDeaf = false
    }

    let path = "/tmp/vusb-fake-\(UUID().uuidString.prefix(8))"
    /// All that isn't of endpoint 0, and UNLINKs.
    let heard = Inbox<Command>()
    private let behaviour: Mutex<Behaviour>
    private let listener: Int32
    private let peer = Mutex<Int32>(-1)

    init(_ behaviour: Behaviour = Behaviour()) throws {
        self.behaviour = Mutex(behaviour)
        listener = try USBIPSocket.listen(at: .unix(path: path))
        // It's to block: there is nothing else to do for its thread.
        _ = fcntl(listener, F_SETFL, 0)
        Thread.detachNewThread { [self] in
            while true {
                let accepted = accept(listener, nil, nil)
                guard accepted >= 0 else { return }
                peer.withLock { $0 = accepted }
                serve(accepted)
                peer.withLock { $0 = -1 }
                Foundation.close(accepted)
            }
        }
    }

    var remote: USBIPRemote? { USBIPRemote(server: .unix(path: path), busID: "1-1") }

    func change(_ body: (inout Behaviour) -> Void) { behaviour.withLock { body(&$0) } }

    func stop() {
        shutdown(listener, Int32(SHUT_RDWR))
        hangUp()
        Foundation.close(listener)
        USBIPSocket.removeSocket(path)
    }

    func hangUp() { peer.withLock { if $0 >= 0 { shutdown($0, Int32(SHUT_RDWR)) } } }

    func send(_ bytes: [UInt8]) {
        let peer = peer.withLock { $0 }
        let piece = behaviour.withLock { $0.piece } ?? bytes.count
        for start in stride(from: 0, to: bytes.count, by: max(1, piece)) {
            var rest = bytes[start..<min(start + piece, bytes.count)]
            while !rest.isEmpty {
                let count = unsafe rest.withUnsafeBytes {
                    unsafe Foundation.send(peer, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
                }
                guard count > 0 else { return }
                rest = rest.dropFirst(count)
            }
        }
    }

    // MARK: - Its thread

    private func serve(_ peer: Int32) {
        guard let request = read(peer, 8) else { return }
        let isImport = request[3] == 3
        let busID = isImport ? read(peer, 32) ?? [] : []
        let isDropped = behaviour.withLock { behaviour in
            guard behaviour.drops > 0 else { return false }
            behaviour.drops -= 1
            return true
        }
        guard !isDropped else { return }
        guard let answer = behaviour.withLock({ $0.answerImport })(busID) else { return waitForEnd(peer) }
        send(answer)
        while let command = next(peer) {
            guard command.command == 1, command.endpoint == 0 else {
                heard.append(command)
                continue
            }
            let special = behaviour.withLock { $0.answerControl }(command)
            send(special ?? control(command))
        }
    }

    private func waitForEnd(_ peer: Int32) { while read(peer, 1) != nil {} }

    /// As `waitForEnd`, and reads nothing.
    private func waitForHangUp(_ peer: Int32) -> Command? {
        var entry = pollfd(fd: peer, events: 0, revents: 0)
        while unsafe poll(&entry, 1, -1) < 0 && errno == EINTR {}
        return nil
    }

    private func read(_ peer: Int32, _ count: Int) -> [UInt8]? {
        var bytes: [UInt8] = []
        while bytes.count < count {
            var piece = [UInt8](repeating: 0, count: count - bytes.count)
            let read = unsafe recv(peer, &piece, piece.count, 0)
            guard read > 0 else { return nil }
            bytes += piece.prefix(read)
        }
        return bytes
    }

    private func next(_ peer: Int32) -> Command? {
        guard let bytes = read(peer, 48) else { return nil }
        guard !behaviour.withLock({ $0.isDeaf }) else { return waitForHangUp(peer) }
        func word(_ offset: Int) -> UInt32 { bytes[offset..<(offset + 4)].reduce(0) { $0 << 8 | UInt32($1) } }
        var command = Command(
            command: word(0), seqnum: word(4), isIn: word(12) == 1, endpoint: word(16), flags: word(20),
            length: word(24), packetCount: word(32), interval: word(36), setup: Array(bytes[40..<48]))
        if command.command == 2 {
            command.length = word(20)
            return command
        }
        let count = (command.isIn ? 0 : Int(command.length)) + 16 * Int(command.packetCount)
        guard count > 0 else { return command }
        guard let data = read(peer, count) else { return nil }
        command.data = data
        return command
    }

    private func control(_ command: Command) -> [UInt8] {
        let setup = command.setup
        guard setup[0] & 0x80 != 0 else { return Self.done(command.seqnum) }
        var data: ArraySlice<UInt8>?
        let descriptors = behaviour.withLock { $0.descriptors }
        switch (setup[1], setup[3]) {
        case (6, 1): data = descriptors.prefix(18)
        case (6, 2): data = descriptors.dropFirst(18)
        case (8, _): data = [1]
        default: break
        }
        guard let data else { return Self.done(command.seqnum, status: -32) }
        return Self.done(command.seqnum, Array(data.prefix(Int(command.length))))
    }

    // MARK: - What servers say

    static func imported(
        busID: [UInt8] = USBIPWire.padded("1-1"), version: UInt16 = 0x0111, code: UInt16 = 3, status: UInt32 = 0,
        bus: UInt32 = 1, device: UInt32 = 2, speed: UInt32 = 3
    ) -> [UInt8] {
        let header = USBIPWire.big(version) + USBIPWire.big(code) + USBIPWire.big(status)
        return status == 0 ? header + record(busID: busID, bus: bus, device: device, speed: speed) : header
    }

    static func record(
        busID: [UInt8] = USBIPWire.padded("1-1"), bus: UInt32 = 1, device: UInt32 = 2, speed: UInt32 = 3,
        interfaces: UInt8 = 1
    ) -> [UInt8] {
        let numbers = [bus, device, speed].flatMap(USBIPWire.big)
        let ids = DescriptorBytes.fullZero.device
        return USBIPWire.padded("/fake", 256) + busID + numbers + USBIPWire.big(ids.idVendor)
            + USBIPWire.big(ids.idProduct) + [0, 0, 0, 0, 0, 1, 1, interfaces]
    }

    static func done(
        _ seqnum: UInt32, _ data: [UInt8] = [], status: Int32 = 0, length: UInt32? = nil, command: UInt32 = 3,
        packetCount: UInt32 = 0
    ) -> [UInt8] {
        let count = length ?? UInt32(data.count)
        let words: [UInt32] = [
            command, seqnum, 0, 0, 0, UInt32(bitPattern: status), count, 0, packetCount, 0, 0, 0,
        ]
        return words.flatMap(USBIPWire.big) + data
    }

    static func unlinked(_ seqnum: UInt32, _ status: Int32) -> [UInt8] {
        [4, seqnum, 0, 0, 0, UInt32(bitPattern: status), 0, 0, 0, 0, 0, 0].flatMap(USBIPWire.big)
    }

    static func packet(_ offset: UInt32, _ length: UInt32, _ actual: UInt32, _ status: Int32 = 0) -> [UInt8] {
        [offset, length, actual, UInt32(bitPattern: status)].flatMap(USBIPWire.big)
    }
}
