// SPDX-License-Identifier: Apache-2.0

package import Logging
package import VUSBCore

/// The source of devices that other USB/IP servers have.
package final class USBIPSource: DeviceSource {
    package let name = "usbip"
    /// Imports at once, at most.
    package static let maximumImports = 64

    private let patience: USBIPImportPatience
    private let logger: Logger

    package init(patience: USBIPImportPatience = USBIPImportPatience(), logger: Logger) {
        self.patience = patience
        self.logger = logger
    }

    package func start() throws(USBError) -> AsyncStream<DeviceEvent> {
        AsyncStream.makeStream(of: DeviceEvent.self).stream
    }

    package func open(_ record: DeviceRecord, isForced: Bool) async throws(USBError) -> OpenedDevice {
        throw USBError(.notFound, "nothing is imported as \(record.id)")
    }

    package func stop() async {}

    /// In the order of their ids.
    package func imports() -> [USBIPImportStatus] { [] }

    /// Begins to import, and keeps at it until `forget`. Returns at once; the device arrives in the stream.
    /// - Parameter name: for the id, `ip-NAME`; nil for one that is made of server and busid.
    /// - Throws: `busy` where the id or the remote is taken, or there are `maximumImports`; `invalid` for the name.
    package func add(_ remote: USBIPRemote, name: String?) throws(USBError) -> DeviceID {
        try remote.id(name: name)
    }

    /// Returns when the first try has succeeded.
    /// - Throws: what it has failed with (others follow meanwhile); `notFound`.
    package func firstTry(of id: DeviceID) async throws(USBError) {
        throw USBError(.notFound, "nothing is imported as \(id)")
    }

    /// Ends it: the device leaves, the session is closed when this returns.
    /// - Throws: `notFound`.
    package func forget(_ id: DeviceID) async throws(USBError) {
        throw USBError(.notFound, "nothing is imported as \(id)")
    }

    /// What a server has to lend.
    /// - Throws: `notFound`, `accessDenied`, `io` where it can't be reached; `timedOut`; `invalid` for an answer that isn't one.
    package static func offers(of server: USBIPServer, within limit: Duration) async throws(USBError) -> [USBIPOffer] {
        []
    }
}
