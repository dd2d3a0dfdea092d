// SPDX-License-Identifier: Apache-2.0

import VUSBCore
import VUSBRedir
import VUSBTestSupport

/// Plays a hostile guest's side of a redirected device with the fuzzer's bytes.
@c(LLVMFuzzerTestOneInput)
public func fuzzOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    // SAFETY: libFuzzer's contract: `count` readable bytes at `start` for the length of the call.
    RedirFuzzing.run(
        unsafe Array(UnsafeBufferPointer(start: start, count: count)), descriptors: DescriptorBytes.fullZero)
    return 0
}
