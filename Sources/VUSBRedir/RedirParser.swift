// SPDX-License-Identifier: Apache-2.0

internal import CUSBRedirParser
internal import Glibc
internal import VUSBCore

/// Whom a parser serves. All are called on its thread, from within `RedirParser.read` or one of the `send` functions.
protocol RedirParserUser: AnyObject {
    /// Bytes of the peer; how many were written to `destination`, 0 for none now, -1 to end it.
    func parserReads(into destination: UnsafeMutableRawBufferPointer) -> Int
    /// With what the peer says of itself.
    func parserGreeted(_ peer: String)
    func parserReceived(_ message: consuming RedirMessage)
    /// Bytes for the peer.
    func parserSends(_ bytes: consuming RedirBytes)
}

/// libusbredirparser, as the side that has the device: it takes apart what the guest's side sends and checks its form,
/// and puts together all that isn't data.
///
/// Concurrency model: one thread has it.
@safe
final class RedirParser {
    /// `usb_redir_cap_*` that this side has: all there are.
    private static let capabilities = [
        usb_redir_cap_bulk_streams, usb_redir_cap_connect_device_version, usb_redir_cap_filter,
        usb_redir_cap_device_disconnect_ack, usb_redir_cap_ep_info_max_packet_size, usb_redir_cap_64bits_ids,
        usb_redir_cap_32bits_bulk_length, usb_redir_cap_bulk_receiving,
    ]

    // SAFETY: made in init, destroyed in deinit, used by the thread that has this object.
    let raw: UnsafeMutablePointer<usbredirparser>
    unowned let user: any RedirParserUser
    /// What the library complained of last.
    private(set) var complaint: String?

    /// Sends a hello at once.
    /// - Returns: nil where there is no memory.
    init?(version: String, user: any RedirParserUser) {
        guard let raw = unsafe usbredirparser_create() else { return nil }
        unsafe self.raw = raw
        self.user = user
        // Not retained: the library calls only from within calls of this object.
        unsafe raw.pointee.priv = Unmanaged.passUnretained(self).toOpaque()
        setCallbacks()
        var capabilities: UInt32 = 0
        for capability in Self.capabilities {
            unsafe usbredirparser_caps_set_cap(&capabilities, Int32(capability))
        }
        unsafe usbredirparser_init(
            raw, version, &capabilities, Int32(USB_REDIR_CAPS_SIZE),
            Int32(usbredirparser_fl_usb_host | usbredirparser_fl_write_cb_owns_buffer))
        flush()
    }

    deinit { unsafe usbredirparser_destroy(raw) }

    /// Takes what there is to read.
    /// - Returns: false where the peer broke a rule: `complaint` says which.
    func read() -> Bool {
        unsafe usbredirparser_do_read(raw) != Int32(usbredirparser_read_parse_error)
    }

    /// Hands what the library has put together to the user.
    func flush() {
        // It can't fail: the user takes all.
        unsafe usbredirparser_do_write(raw)
    }

    /// To be asked after the peer's hello.
    func peerHas(_ capability: Int) -> Bool { unsafe usbredirparser_peer_has_cap(raw, Int32(capability)) != 0 }

    fileprivate func noteComplaint(_ level: Int32, _ text: UnsafePointer<CChar>?) {
        guard level <= Int32(usbredirparser_warning), let text = unsafe text else { return }
        complaint = unsafe String(cString: text)
    }

    fileprivate static func of(_ context: UnsafeMutableRawPointer?) -> RedirParser? {
        // SAFETY: `priv` is this object, which is in a call to the library just now.
        unsafe context.map { unsafe Unmanaged<RedirParser>.fromOpaque($0).takeUnretainedValue() }
    }

    fileprivate static func receive(_ context: UnsafeMutableRawPointer?, _ message: consuming RedirMessage) {
        unsafe of(context)?.user.parserReceived(message)
    }
}

// MARK: - Callbacks

extension RedirParser {
    private func setCallbacks() {
        unsafe raw.pointee.log_func = { unsafe RedirParser.of($0)?.noteComplaint($1, $2) }
        unsafe raw.pointee.read_func = { context, bytes, count in
            guard let user = unsafe RedirParser.of(context)?.user, let bytes = unsafe bytes, count > 0 else { return 0 }
            // SAFETY: the library has `count` bytes there.
            let destination = unsafe UnsafeMutableRawBufferPointer(start: bytes, count: Int(count))
            return Int32(unsafe user.parserReads(into: destination))
        }
        unsafe raw.pointee.write_func = { context, bytes, count in
            guard let bytes = unsafe bytes, let user = unsafe RedirParser.of(context)?.user else { return -1 }
            // SAFETY: with fl_write_cb_owns_buffer the buffer is ours now, to be freed with free(3).
            unsafe user.parserSends(RedirBytes(owning: bytes, count: Int(count)))
            return count
        }
        setSettingCallbacks()
        setStreamCallbacks()
        setDataCallbacks()
    }

    private func setSettingCallbacks() {
        unsafe raw.pointee.hello_func = { context, hello in
            let peer = unsafe hello.map { unsafe RedirParser.text(of: $0) } ?? ""
            unsafe RedirParser.of(context)?.user.parserGreeted(peer)
        }
        unsafe raw.pointee.reset_func = { unsafe RedirParser.receive($0, .reset) }
        unsafe raw.pointee.set_configuration_func = { context, id, header in
            guard let header = unsafe header?.pointee else { return }
            unsafe RedirParser.receive(context, .setConfiguration(id: id, value: header.configuration))
        }
        unsafe raw.pointee.get_configuration_func = { unsafe RedirParser.receive($0, .getConfiguration(id: $1)) }
        unsafe raw.pointee.set_alt_setting_func = { context, id, header in
            guard let header = unsafe header?.pointee else { return }
            unsafe RedirParser.receive(
                context, .setInterface(id: id, interface: header.interface, alternate: header.alt))
        }
        unsafe raw.pointee.get_alt_setting_func = { context, id, header in
            guard let header = unsafe header?.pointee else { return }
            unsafe RedirParser.receive(context, .getInterface(id: id, interface: header.interface))
        }
        unsafe raw.pointee.filter_reject_func = { unsafe RedirParser.receive($0, .reject) }
        unsafe raw.pointee.filter_filter_func = { context, rules, count in
            unsafe RedirParser.receive(context, .filter(RedirFilter(rules, count: count)))
        }
        unsafe raw.pointee.device_disconnect_ack_func = { unsafe RedirParser.receive($0, .disconnectAcknowledged) }
    }

    private func setStreamCallbacks() {
        unsafe raw.pointee.start_iso_stream_func = { context, _, header in
            guard let header = unsafe header?.pointee else { return }
            let wish = RedirStreamWish(
                kind: .isochronous, endpoint: header.endpoint, packetsPerURB: Int(header.pkts_per_urb),
                transfers: Int(header.no_urbs))
            unsafe RedirParser.receive(context, .startStream(wish))
        }
        unsafe raw.pointee.stop_iso_stream_func = { context, _, header in
            guard let endpoint = unsafe header?.pointee.endpoint else { return }
            unsafe RedirParser.receive(context, .stopStream(.isochronous, endpoint: endpoint, streamID: 0))
        }
        unsafe raw.pointee.start_interrupt_receiving_func = { context, _, header in
            guard let endpoint = unsafe header?.pointee.endpoint else { return }
            let wish = RedirStreamWish(
                kind: .interrupt, endpoint: endpoint, transfers: RedirLimits.interruptTransfers)
            unsafe RedirParser.receive(context, .startStream(wish))
        }
        unsafe raw.pointee.stop_interrupt_receiving_func = { context, _, header in
            guard let endpoint = unsafe header?.pointee.endpoint else { return }
            unsafe RedirParser.receive(context, .stopStream(.interrupt, endpoint: endpoint, streamID: 0))
        }
        unsafe raw.pointee.start_bulk_receiving_func = { context, _, header in
            guard let header = unsafe header?.pointee else { return }
            let wish = RedirStreamWish(
                kind: .bulk, endpoint: header.endpoint, transfers: Int(header.no_transfers),
                bytesPerTransfer: Int(header.bytes_per_transfer), streamID: header.stream_id)
            unsafe RedirParser.receive(context, .startStream(wish))
        }
        unsafe raw.pointee.stop_bulk_receiving_func = { context, _, header in
            guard let header = unsafe header?.pointee else { return }
            unsafe RedirParser.receive(
                context, .stopStream(.bulk, endpoint: header.endpoint, streamID: header.stream_id))
        }
        unsafe raw.pointee.alloc_bulk_streams_func = { context, id, header in
            guard let header = unsafe header?.pointee else { return }
            unsafe RedirParser.receive(
                context, .allocateStreams(id: id, endpoints: header.endpoints, count: header.no_streams))
        }
        unsafe raw.pointee.free_bulk_streams_func = { context, id, header in
            guard let header = unsafe header?.pointee else { return }
            unsafe RedirParser.receive(context, .freeStreams(id: id, endpoints: header.endpoints))
        }
    }

    private func setDataCallbacks() {
        unsafe raw.pointee.cancel_data_packet_func = { unsafe RedirParser.receive($0, .cancel(id: $1)) }
        unsafe raw.pointee.control_packet_func = { context, id, header, data, count in
            let buffer = unsafe RedirBytes.transferBuffer(data, count)
            guard let header = unsafe header?.pointee else { return }
            let setup = SetupPacket(
                bmRequestType: header.requesttype, bRequest: header.request, wValue: header.value,
                wIndex: header.index, wLength: header.length)
            let transfer = RedirTransfer(
                id: id, kind: .control(setup), endpoint: header.endpoint, length: Int(header.length))
            unsafe RedirParser.receive(context, .transfer(transfer, buffer))
        }
        unsafe raw.pointee.bulk_packet_func = { context, id, header, data, count in
            let buffer = unsafe RedirBytes.transferBuffer(data, count)
            guard let header = unsafe header?.pointee else { return }
            let transfer = RedirTransfer(
                id: id, kind: .bulk(streamID: header.stream_id), endpoint: header.endpoint,
                length: Int(header.length_high) << 16 | Int(header.length))
            unsafe RedirParser.receive(context, .transfer(transfer, buffer))
        }
        unsafe raw.pointee.interrupt_packet_func = { context, id, header, data, count in
            let buffer = unsafe RedirBytes.transferBuffer(data, count)
            guard let header = unsafe header?.pointee else { return }
            let transfer = RedirTransfer(
                id: id, kind: .interrupt, endpoint: header.endpoint, length: Int(header.length))
            unsafe RedirParser.receive(context, .transfer(transfer, buffer))
        }
        unsafe raw.pointee.iso_packet_func = { context, _, header, data, count in
            let buffer = unsafe RedirBytes.transferBuffer(data, count)
            guard let header = unsafe header?.pointee else { return }
            unsafe RedirParser.receive(
                context, .isochronous(endpoint: header.endpoint, length: Int(header.length), buffer))
        }
    }

    /// The version, of at most 64 bytes, which needn't end with a zero.
    private static func text(of hello: UnsafeMutablePointer<usb_redir_hello_header>) -> String {
        // SAFETY: the field is 64 bytes at the begin of the header.
        let bytes = unsafe UnsafeRawBufferPointer(start: hello, count: 64)
        return unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }
}
