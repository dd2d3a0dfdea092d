// SPDX-License-Identifier: Apache-2.0

import VUSBCore
import VUSBIP
import VUSBTestSupport

/// Plays a hostile server's side of an import with the fuzzer's bytes.
@c(LLVMFuzzerTestOneInput)
public func fuzzOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    // SAFETY: libFuzzer's contract: `count` readable bytes at `start` for the length of the call.
    USBIPFuzzing.runClient(
        unsafe Array(UnsafeBufferPointer(start: start, count: count)), descriptors: DescriptorBytes.fullZero)
    return 0
}
