// SPDX-License-Identifier: Apache-2.0

import VUSBCharDevice
import VUSBCore
import VUSBTestSupport

/// Plays hostile programs at a character device with the fuzzer's bytes.
@c(LLVMFuzzerTestOneInput)
public func fuzzOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    // SAFETY: libFuzzer's contract: `count` readable bytes at `start` for the length of the call.
    UsbfsFuzzing.run(unsafe Array(UnsafeBufferPointer(start: start, count: count)), descriptors: descriptors)
    return 0
}

/// A Gadget Zero whose setting in force has endpoints of all types.
private let descriptors: Descriptors = {
    let endpoints = [
        DescriptorBytes.endpoint(0x81), DescriptorBytes.endpoint(0x02),
        DescriptorBytes.endpoint(0x83, .isochronous, maxPacketSize: 1024, interval: 1),
        DescriptorBytes.endpoint(0x04, .isochronous, maxPacketSize: 1024, interval: 1),
        DescriptorBytes.endpoint(0x85, .interrupt, maxPacketSize: 64, interval: 4),
        DescriptorBytes.endpoint(0x06, .interrupt, maxPacketSize: 64, interval: 4),
    ]
    let bytes =
        DescriptorBytes.device()
        + DescriptorBytes.configuration(
            [DescriptorBytes.interface(0, endpoints: 6)] + endpoints
                + [DescriptorBytes.interface(0, alternate: 1, endpoints: 2)] + endpoints.prefix(2))
    guard let descriptors = try? Descriptors(parsing: bytes) else { preconditionFailure("they're constants") }
    return descriptors
}()
