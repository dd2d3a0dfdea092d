// SPDX-License-Identifier: Apache-2.0

package import VUSBCore

extension DescriptorBytes {
    /// A Gadget Zero whose setting in force has endpoints of all types.
    package static let fullZero: Descriptors = {
        let endpoints = [
            endpoint(0x81), endpoint(0x02),
            endpoint(0x83, .isochronous, maxPacketSize: 1024, interval: 1),
            endpoint(0x04, .isochronous, maxPacketSize: 1024, interval: 1),
            endpoint(0x85, .interrupt, maxPacketSize: 64, interval: 4),
            endpoint(0x06, .interrupt, maxPacketSize: 64, interval: 4),
        ]
        let bytes =
            device()
            + configuration(
                [interface(0, endpoints: 6)] + endpoints + [interface(0, alternate: 1, endpoints: 2)]
                    + endpoints.prefix(2))
        guard let descriptors = try? Descriptors(parsing: bytes) else { preconditionFailure("they're constants") }
        return descriptors
    }()
}
