// SPDX-License-Identifier: Apache-2.0

import VUSBCore

/// Feeds the fuzzer's bytes to everything that parses what a device says of itself. Whatever parses is used as the
/// daemon uses it: wrong tables must show here, not there.
@c(LLVMFuzzerTestOneInput)
public func fuzzOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    // SAFETY: libFuzzer's contract: `count` readable bytes at `start` for the length of the call.
    let bytes = unsafe Array(UnsafeBufferPointer(start: start, count: count))
    // A refusal is what most inputs deserve; only a crash or a hang is a find.
    if let descriptors = try? Descriptors(parsing: bytes) { useDescriptors(descriptors) }
    _ = try? BOSDescriptor(parsing: bytes)
    _ = try? StringDescriptor.languages(parsing: bytes)
    if let string = try? StringDescriptor(parsing: bytes) {
        precondition(!string.text.utf8.contains { $0 < 0x20 })
        precondition(string.bytes.count <= bytes.count)
    }
    return 0
}

private func useDescriptors(_ descriptors: Descriptors) {
    precondition(descriptors.configurations.count == Int(descriptors.device.bNumConfigurations))
    for configuration in descriptors.configurations {
        let value = configuration.bConfigurationValue
        precondition(descriptors.configuration(value: value) == configuration)
        for interface in configuration.interfaces {
            let settings = ActiveSettings(
                descriptors,
                configurationValue: value,
                alternates: [interface.bInterfaceNumber: interface.bAlternateSetting]
            )
            for endpoint in interface.endpoints {
                precondition(settings.endpoint(endpoint.bEndpointAddress) != nil)
                precondition(endpoint.maxBytesPerInterval >= endpoint.maxPacketSize)
            }
        }
    }
}
