// SPDX-License-Identifier: Apache-2.0

import CUSBRedirParser
import Foundation

/// libusbredirparser as the guest's side has it: what it makes of a host's bytes is a check of those that are put
/// together here without it.
///
/// Concurrency model: the peer's reading thread has it.
@safe
final class RedirGuestParser {
    // SAFETY: made in init, destroyed in deinit, used by one thread.
    private let raw: UnsafeMutablePointer<usbredirparser>
    private var input: ArraySlice<UInt8> = []
    private var heard: [RedirHeard] = []

    init(_ capabilities: RedirCapabilities) {
        guard let raw = unsafe usbredirparser_create() else { preconditionFailure("no memory") }
        unsafe self.raw = raw
        unsafe raw.pointee.priv = Unmanaged.passUnretained(self).toOpaque()
        setCallbacks()
        var bits = capabilities.rawValue
        unsafe usbredirparser_init(
            raw, "test", &bits, Int32(USB_REDIR_CAPS_SIZE), Int32(usbredirparser_fl_no_hello))
    }

    deinit { unsafe usbredirparser_destroy(raw) }

    func parse(_ bytes: [UInt8]) -> [RedirHeard] {
        input = bytes[...]
        while unsafe usbredirparser_do_read(raw) == Int32(usbredirparser_read_parse_error) {}
        defer { heard = [] }
        return heard
    }

    private static func of(_ context: UnsafeMutableRawPointer?) -> RedirGuestParser {
        guard let context = unsafe context else { preconditionFailure("priv is set") }
        // SAFETY: `priv` is this object, which is in a call to the library just now.
        return unsafe Unmanaged<RedirGuestParser>.fromOpaque(context).takeUnretainedValue()
    }

    private static func hear(_ context: UnsafeMutableRawPointer?, _ message: RedirHeard) {
        unsafe of(context).heard.append(message)
    }

    /// Takes over `data`.
    private static func hear(
        _ context: UnsafeMutableRawPointer?, _ packet: RedirHeard.Packet, _ data: UnsafeMutablePointer<UInt8>?,
        _ count: Int32
    ) {
        var packet = packet
        if let data = unsafe data {
            packet.data = unsafe Array(UnsafeBufferPointer(start: data, count: Int(count)))
            unsafe free(data)
        }
        unsafe hear(context, .packet(packet))
    }

    private func read(into bytes: UnsafeMutablePointer<UInt8>, _ count: Int) -> Int {
        let taken = min(count, input.count)
        // SAFETY: the library has `count` bytes there.
        unsafe input.withUnsafeBytes { source in
            unsafe UnsafeMutableRawBufferPointer(start: bytes, count: count)
                .copyMemory(from: UnsafeRawBufferPointer(rebasing: source[..<taken]))
        }
        input = input.dropFirst(taken)
        return taken
    }
}

extension RedirGuestParser {
    private func setCallbacks() {
        unsafe raw.pointee.log_func = { context, level, text in
            guard level <= Int32(usbredirparser_warning), let text = unsafe text else { return }
            unsafe RedirGuestParser.hear(context, .complaint(String(cString: text)))
        }
        unsafe raw.pointee.read_func = { context, bytes, count in
            guard let bytes = unsafe bytes else { return 0 }
            return Int32(unsafe RedirGuestParser.of(context).read(into: bytes, Int(count)))
        }
        unsafe raw.pointee.write_func = { _, _, count in count }
        setDescriptionCallbacks()
        setStatusCallbacks()
        setDataCallbacks()
    }

    private func setDescriptionCallbacks() {
        unsafe raw.pointee.hello_func = { context, hello in
            guard let hello = unsafe hello else { return }
            let bytes = unsafe UnsafeRawBufferPointer(start: hello, count: 64).prefix { $0 != 0 }
            unsafe RedirGuestParser.hear(context, .hello(String(decoding: bytes, as: UTF8.self)))
        }
        unsafe raw.pointee.device_connect_func = { context, header in
            guard let header = unsafe header?.pointee else { return }
            let connect = RedirHeard.Connect(
                speed: header.speed, deviceClass: header.device_class, vendor: header.vendor_id,
                product: header.product_id, version: header.device_version_bcd)
            unsafe RedirGuestParser.hear(context, .connect(connect))
        }
        unsafe raw.pointee.device_disconnect_func = { unsafe RedirGuestParser.hear($0, .disconnect) }
        unsafe raw.pointee.interface_info_func = { context, header in
            guard let header = unsafe header else { return }
            // `interface_count`, then 32 bytes each of number, class, subclass, protocol.
            let bytes = unsafe Array(UnsafeRawBufferPointer(start: header, count: 132))
            let rows = (0..<Int(bytes[0])).map {
                RedirHeard.Interface(number: bytes[4 + $0], interfaceClass: bytes[36 + $0])
            }
            unsafe RedirGuestParser.hear(context, .interfaces(rows))
        }
        unsafe raw.pointee.ep_info_func = { context, header in
            guard let header = unsafe header else { return }
            let bytes = unsafe Array(UnsafeRawBufferPointer(start: header, count: 288))
            unsafe RedirGuestParser.hear(context, .endpoints(RedirHeard.Endpoint.rows(bytes)))
        }
    }

    private func setStatusCallbacks() {
        unsafe raw.pointee.configuration_status_func = { context, id, header in
            guard let header = unsafe header?.pointee else { return }
            unsafe RedirGuestParser.hear(
                context, .configuration(id: id, RedirWord(header.status), value: header.configuration))
        }
        unsafe raw.pointee.alt_setting_status_func = { context, id, header in
            guard let header = unsafe header?.pointee else { return }
            unsafe RedirGuestParser.hear(
                context,
                .interface(id: id, RedirWord(header.status), number: header.interface, alternate: header.alt))
        }
        unsafe raw.pointee.iso_stream_status_func = { context, _, header in
            guard let header = unsafe header?.pointee else { return }
            unsafe RedirGuestParser.hear(context, .isochronousStatus(header.endpoint, RedirWord(header.status)))
        }
        unsafe raw.pointee.interrupt_receiving_status_func = { context, _, header in
            guard let header = unsafe header?.pointee else { return }
            unsafe RedirGuestParser.hear(context, .interruptStatus(header.endpoint, RedirWord(header.status)))
        }
        unsafe raw.pointee.bulk_receiving_status_func = { context, _, header in
            guard let header = unsafe header?.pointee else { return }
            unsafe RedirGuestParser.hear(
                context, .bulkStatus(header.endpoint, RedirWord(header.status), streamID: header.stream_id))
        }
        unsafe raw.pointee.bulk_streams_status_func = { context, id, header in
            guard let header = unsafe header?.pointee else { return }
            unsafe RedirGuestParser.hear(
                context,
                .streams(
                    id: id, RedirWord(header.status), endpoints: header.endpoints, count: header.no_streams))
        }
    }

    private func setDataCallbacks() {
        unsafe raw.pointee.control_packet_func = { context, id, header, data, count in
            guard let header = unsafe header?.pointee else { return }
            let packet = RedirHeard.Packet(
                kind: .control, id: id, endpoint: header.endpoint, status: RedirWord(header.status),
                length: Int(header.length), request: header.request)
            unsafe RedirGuestParser.hear(context, packet, data, count)
        }
        unsafe raw.pointee.bulk_packet_func = { context, id, header, data, count in
            guard let header = unsafe header?.pointee else { return }
            let packet = RedirHeard.Packet(
                kind: .bulk, id: id, endpoint: header.endpoint, status: RedirWord(header.status),
                length: Int(header.length_high) << 16 | Int(header.length), streamID: header.stream_id)
            unsafe RedirGuestParser.hear(context, packet, data, count)
        }
        unsafe raw.pointee.iso_packet_func = { context, id, header, data, count in
            guard let header = unsafe header?.pointee else { return }
            let packet = RedirHeard.Packet(
                kind: .isochronous, id: id, endpoint: header.endpoint, status: RedirWord(header.status),
                length: Int(header.length))
            unsafe RedirGuestParser.hear(context, packet, data, count)
        }
        unsafe raw.pointee.interrupt_packet_func = { context, id, header, data, count in
            guard let header = unsafe header?.pointee else { return }
            let packet = RedirHeard.Packet(
                kind: .interrupt, id: id, endpoint: header.endpoint, status: RedirWord(header.status),
                length: Int(header.length))
            unsafe RedirGuestParser.hear(context, packet, data, count)
        }
        unsafe raw.pointee.buffered_bulk_packet_func = { context, id, header, data, count in
            guard let header = unsafe header?.pointee else { return }
            let packet = RedirHeard.Packet(
                kind: .buffered, id: id, endpoint: header.endpoint, status: RedirWord(header.status),
                length: Int(header.length), streamID: header.stream_id)
            unsafe RedirGuestParser.hear(context, packet, data, count)
        }
    }
}

extension RedirHeard.Endpoint {
    /// Of a `usb_redir_ep_info`: 32 bytes each of type, interval and interface, 32 words of 16 bits of packet size, 32
    /// of 32 bits of streams.
    fileprivate static func rows(_ bytes: [UInt8]) -> [Self] {
        (0..<32).compactMap { row in
            guard bytes[row] != 255 else { return nil }
            let streams = (0..<4).reduce(UInt32(0)) { $0 | UInt32(bytes[160 + 4 * row + $1]) << UInt32(8 * $1) }
            return Self(
                address: UInt8(row & 15) | (row >= 16 ? 0x80 : 0), type: bytes[row], interval: bytes[32 + row],
                interface: bytes[64 + row],
                packetSize: UInt16(bytes[96 + 2 * row]) | UInt16(bytes[97 + 2 * row]) << 8, streams: streams)
        }
    }
}
