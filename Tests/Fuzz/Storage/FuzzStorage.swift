// SPDX-License-Identifier: Apache-2.0

import VUSBCore

/// Feeds the fuzzer's bytes to what watches mass storage, as a hostile guest and a hostile device would.
@c(LLVMFuzzerTestOneInput)
public func fuzzOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    // SAFETY: libFuzzer's contract: `count` readable bytes at `start` for the length of the call.
    StorageFuzzing.run(unsafe Array(UnsafeBufferPointer(start: start, count: count)))
    return 0
}
