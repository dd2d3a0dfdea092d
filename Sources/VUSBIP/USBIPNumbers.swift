// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// Numbers of the protocol: usbip_protocol.rst, and include/uapi/linux/usbip.h.
enum USBIPNumbers {
    static let version: UInt16 = 0x0111
    /// OP_REQ_DEVLIST and OP_REQ_IMPORT; the answers' codes lack the highest bit.
    static let requestList: UInt16 = 0x8005
    static let requestImport: UInt16 = 0x8003
    static let replyList: UInt16 = 0x0005
    static let replyImport: UInt16 = 0x0003
    /// Version, code, status.
    static let operationBytes = 8
    static let busIDBytes = 32
    static let pathBytes = 256
    /// A device in an answer, without its interfaces.
    static let recordBytes = 312

    static let commandSubmit: UInt32 = 1
    static let commandUnlink: UInt32 = 2
    static let replySubmit: UInt32 = 3
    static let replyUnlink: UInt32 = 4
    /// Of each command and its answer.
    static let headerBytes = 48
    static let packetBytes = 16
    /// `number_of_packets` where there are none.
    static let noPackets: UInt32 = 0xffff_ffff

    /// URB_SHORT_NOT_OK, URB_ISO_ASAP, URB_ZERO_PACKET, URB_DIR_IN.
    static let flagShortNotOK: UInt32 = 0x01
    static let flagISOASAP: UInt32 = 0x02
    static let flagZeroPacket: UInt32 = 0x40
    static let flagDirectionIn: UInt32 = 0x200

    /// PORT_RESET of a hub (USB 2.0, table 11-17).
    static let featurePortReset: UInt16 = 4
}

/// `status` of an answer to an operation: ST_OK to ST_ERROR of the kernel's tools.
enum USBIPOperationStatus: UInt32 {
    case success = 0
    /// ST_NA: it failed, and nobody says why.
    case failed = 1
    case busy = 2
    case deviceError = 3
    case noDevice = 4
    case error = 5
}

extension USBIPOperationStatus {
    /// To be told of.
    var text: String {
        switch self {
        case .success: "it's there"
        case .failed: "the server refuses it, and doesn't say why"
        case .busy: "another has it"
        case .deviceError: "it's in an error"
        case .noDevice: "the server doesn't have it"
        case .error: "the server has failed"
        }
    }
}

extension DeviceSpeed {
    /// Nil for one that wires don't have.
    init?(usbipNumber: UInt32) {
        guard let speed = Self.allCases.first(where: { $0.usbipNumber == usbipNumber }) else { return nil }
        self = speed
    }

    /// `enum usb_device_speed` of Linux.
    var usbipNumber: UInt32 {
        switch self {
        case .low: 1
        case .full: 2
        case .high: 3
        case .super: 5
        case .superPlus: 6
        }
    }
}

extension URBStatus {
    /// What a peer is told. -ENOENT means to a driver that it has killed the URB itself, so that isn't said of an endpoint
    /// that isn't there.
    var usbipNumber: Int32 { self == .noEndpoint ? URBStatus.shutdown.rawValue : rawValue }

    private static let known: Set<URBStatus> = [
        .success, .io, .again, .noMemory, .accessDenied, .busy, .partial, .noDevice, .invalid, .stall, .noResponse,
        .protocolError, .babble, .checksumError, .tooLong, .notSupported, .cancelled, .shutdown, .timedOut, .shortNotOK,
    ]

    /// What a server says. Its -ENOENT is of a URB that it has killed itself; what is no status of a URB is an error.
    init(usbipNumber: Int32) {
        let status = URBStatus(rawValue: usbipNumber)
        self = status == .noEndpoint ? .shutdown : Self.known.contains(status) ? status : .io
    }
}
