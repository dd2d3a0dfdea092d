// SPDX-License-Identifier: Apache-2.0

internal import CUSBRedirParser
internal import VUSBCore

/// Messages that aren't data. They go to the user with the next `flush`.
extension RedirParser {
    func sendConnect(_ device: VirtualDevice) {
        let descriptor = device.descriptors.device
        var header = usb_redir_device_connect_header(
            speed: UInt8(device.speed.redirSpeed), device_class: descriptor.bDeviceClass,
            device_subclass: descriptor.bDeviceSubClass, device_protocol: descriptor.bDeviceProtocol,
            vendor_id: descriptor.idVendor, product_id: descriptor.idProduct,
            device_version_bcd: descriptor.bcdDevice)
        unsafe usbredirparser_send_device_connect(raw, &header)
    }

    func sendDisconnect() { unsafe usbredirparser_send_device_disconnect(raw) }

    func sendConfiguration(id: UInt64, _ status: RedirStatusCode, value: UInt8) {
        var header = usb_redir_configuration_status_header(status: status.rawValue, configuration: value)
        unsafe usbredirparser_send_configuration_status(raw, id, &header)
    }

    func sendInterface(id: UInt64, _ status: RedirStatusCode, interface: UInt8, alternate: UInt8) {
        var header = usb_redir_alt_setting_status_header(
            status: status.rawValue, interface: interface, alt: alternate)
        unsafe usbredirparser_send_alt_setting_status(raw, id, &header)
    }

    func sendStream(_ kind: RedirStream.Kind, endpoint: UInt8, streamID: UInt32, _ status: RedirStatusCode) {
        switch kind {
        case .isochronous:
            var header = usb_redir_iso_stream_status_header(status: status.rawValue, endpoint: endpoint)
            unsafe usbredirparser_send_iso_stream_status(raw, 0, &header)
        case .interrupt:
            var header = usb_redir_interrupt_receiving_status_header(status: status.rawValue, endpoint: endpoint)
            unsafe usbredirparser_send_interrupt_receiving_status(raw, 0, &header)
        case .bulk:
            // The library drops it where the peer can't have asked.
            guard peerHas(usb_redir_cap_bulk_receiving) else { return }
            var header = usb_redir_bulk_receiving_status_header(
                stream_id: streamID, endpoint: endpoint, status: status.rawValue)
            unsafe usbredirparser_send_bulk_receiving_status(raw, 0, &header)
        }
    }

    func sendBulkStreams(id: UInt64, endpoints: UInt32, count: UInt32, _ status: RedirStatusCode) {
        var header = usb_redir_bulk_streams_status_header(
            endpoints: endpoints, no_streams: count, status: status.rawValue)
        unsafe usbredirparser_send_bulk_streams_status(raw, id, &header)
    }

    // MARK: - Description

    func sendDescription(_ description: RedirDescription) {
        var interfaces = usb_redir_interface_info_header()
        // SAFETY: the description's bytes have the size of the struct they fill.
        unsafe withUnsafeMutableBytes(of: &interfaces) { unsafe $0.copyBytes(from: description.interfaceBytes) }
        unsafe usbredirparser_send_interface_info(raw, &interfaces)
        var endpoints = usb_redir_ep_info_header()
        unsafe withUnsafeMutableBytes(of: &endpoints) { unsafe $0.copyBytes(from: description.endpointBytes) }
        unsafe usbredirparser_send_ep_info(raw, &endpoints)
    }
}

extension DeviceSpeed {
    var redirSpeed: Int {
        switch self {
        case .low: usb_redir_speed_low
        case .full: usb_redir_speed_full
        case .high: usb_redir_speed_high
        case .super, .superPlus: usb_redir_speed_super
        }
    }
}
