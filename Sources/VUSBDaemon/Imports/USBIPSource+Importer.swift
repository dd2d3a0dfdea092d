// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore
internal import VUSBIP

extension USBIPSource: DeviceImporter {
    func offers(of server: USBIPServer, within limit: Duration) async throws(USBError) -> USBIPOfferList {
        try await Self.offers(of: server, within: limit)
    }
}
