// SPDX-License-Identifier: Apache-2.0

/// A device of another USB/IP server: the body of `POST /v1/imports`.
package struct ImportRequest: Codable, Sendable, Equatable {
    /// `HOST`, `HOST:PORT`, `[IPV6]:PORT`, `unix:PATH`, `vsock:CID` or `vsock:CID:PORT`.
    package var server: String
    /// What the server calls the device, such as `1-2`.
    package var busid: String
    /// The device's id is `ip-NAME` then; else it follows from server and busid.
    package var name: String?
    /// The import stays also where its first try fails. Default false.
    package var keepTrying: Bool?

    package init(server: String, busid: String, name: String? = nil, keepTrying: Bool? = nil) {
        self.server = server
        self.busid = busid
        self.name = name
        self.keepTrying = keepTrying
    }
}

/// A device that is imported, or that vusbd tries to import.
package struct ImportInfo: Codable, Sendable, Equatable {
    package enum State: String, Codable, Sendable {
        /// A try is under way.
        case connecting
        /// The device is there.
        case imported
        /// It's tried again in a while; see `reason`.
        case waiting
    }

    /// The device's.
    package var id: String
    package var server: String
    package var busid: String
    package var state: State
    /// Why it waits, or what the last try has failed with while there is another.
    package var reason: String?
    /// Seconds since 1970: since when the device is there, or isn't.
    package var since: Double
    /// Tries that failed since it was last there.
    package var attempts: Int
    /// Until the next try, while it waits.
    package var retrySeconds: Double?
    /// `configuration` or `control`.
    package var declaredBy: String

    package init(
        id: String, server: String, busid: String, state: State, reason: String? = nil, since: Double, attempts: Int,
        retrySeconds: Double? = nil, declaredBy: String
    ) {
        self.id = id
        self.server = server
        self.busid = busid
        self.state = state
        self.reason = reason
        self.since = since
        self.attempts = attempts
        self.retrySeconds = retrySeconds
        self.declaredBy = declaredBy
    }
}

/// A device that a server lends to whoever imports it.
package struct OfferInfo: Codable, Sendable, Equatable {
    /// Of one with a fault whatever the server calls it.
    package var busid: String
    /// Four hexadecimal digits each.
    package var idVendor: String
    package var idProduct: String
    /// low, full, high, super or super-plus.
    package var speed: String
    /// Two hexadecimal digits.
    package var deviceClass: String
    /// `class/subclass/protocol` of each interface, hexadecimal; the first few.
    package var interfaces: [String]
    /// What it says of itself where it's imported, else what its ids mean to this host (usb.ids).
    package var name: String?
    /// What it is by its classes, such as `mass storage`.
    package var kind: String?
    /// The id of the import that is this device already.
    package var imported: String?
    /// How that is now.
    package var importState: ImportInfo.State?
    /// Why that isn't there.
    package var reason: String?
    /// Why it can't be imported: the server's entry is garbled.
    package var fault: String?

    package init(
        busid: String, idVendor: String = "0000", idProduct: String = "0000", speed: String = "full",
        deviceClass: String = "00", interfaces: [String] = [], name: String? = nil, kind: String? = nil,
        imported: String? = nil, importState: ImportInfo.State? = nil, reason: String? = nil, fault: String? = nil
    ) {
        self.busid = busid
        self.idVendor = idVendor
        self.idProduct = idProduct
        self.speed = speed
        self.deviceClass = deviceClass
        self.interfaces = interfaces
        self.name = name
        self.kind = kind
        self.imported = imported
        self.importState = importState
        self.reason = reason
        self.fault = fault
    }
}
