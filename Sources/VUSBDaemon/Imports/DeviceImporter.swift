// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore
internal import VUSBIP

/// A source whose devices are imported from USB/IP servers: `USBIPSource`, or a test's.
protocol DeviceImporter: DeviceSource {
    /// In the order of their ids.
    func imports() -> [USBIPImportStatus]
    /// Begins to import, and keeps at it until `forget`. The device arrives in the source's stream.
    /// - Throws: `busy` where the id or the device is taken.
    func add(_ remote: USBIPRemote, name: String?) throws(USBError) -> DeviceID
    /// Returns when the first try has succeeded.
    /// - Throws: what it failed with; it's tried on meanwhile.
    func firstTry(of id: DeviceID) async throws(USBError)
    /// Ends it: the device leaves in the source's stream, and the session is closed when this returns.
    func forget(_ id: DeviceID) async throws(USBError)
    /// What a server lends.
    func offers(of server: USBIPServer, within limit: Duration) async throws(USBError) -> USBIPOfferList
}
