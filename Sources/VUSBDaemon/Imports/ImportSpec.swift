// SPDX-License-Identifier: Apache-2.0

internal import VUSBControl

/// Which device of which server is imported: an entry of vusb.yaml and of the saved state.
struct ImportSpec: Codable, Sendable, Equatable {
    /// As people write it.
    var server: String
    var busid: String
    /// Behind `ip-`; nil where the id follows from the others.
    var name: String?

    init(server: String, busid: String, name: String? = nil) {
        self.server = server
        self.busid = busid
        self.name = name
    }

    init(_ request: ImportRequest) { self.init(server: request.server, busid: request.busid, name: request.name) }
}

extension ImportSpec: CustomStringConvertible {
    var description: String { "\(busid) of \(server)" }
}
