// SPDX-License-Identifier: Apache-2.0

import VUSBCore
import VUSBFileSystem
import VUSBTestSupport

/// Plays a hostile opener of a guest's channel with the fuzzer's bytes.
@c(LLVMFuzzerTestOneInput)
public func fuzzOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    // SAFETY: libFuzzer's contract: `count` readable bytes at `start` for the length of the call.
    HCDFuzzing.run(unsafe Array(UnsafeBufferPointer(start: start, count: count)), descriptors: descriptors)
    return 0
}

/// A Gadget Zero whose alternate setting in force has bulk and isochronous endpoints.
private let descriptors: Descriptors = {
    let bytes =
        DescriptorBytes.device()
        + DescriptorBytes.configuration([
            DescriptorBytes.interface(0, endpoints: 4),
            DescriptorBytes.endpoint(0x81), DescriptorBytes.endpoint(0x02),
            DescriptorBytes.endpoint(0x83, .isochronous, maxPacketSize: 1024, interval: 1),
            DescriptorBytes.endpoint(0x04, .isochronous, maxPacketSize: 1024, interval: 1),
        ])
    guard let descriptors = try? Descriptors(parsing: bytes) else { preconditionFailure("they're constants") }
    return descriptors
}()
