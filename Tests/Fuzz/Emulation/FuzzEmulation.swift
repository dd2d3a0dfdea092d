// SPDX-License-Identifier: Apache-2.0

import VUSBEmulation

/// Feeds the fuzzer's bytes to the emulated devices as transfers of a hostile guest.
@c(LLVMFuzzerTestOneInput)
public func fuzzOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    // SAFETY: libFuzzer's contract: `count` readable bytes at `start` for the length of the call.
    EmulationFuzzing.run(unsafe Array(UnsafeBufferPointer(start: start, count: count)))
    return 0
}
