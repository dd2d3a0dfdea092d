// SPDX-License-Identifier: Apache-2.0

import VUSBHost

/// Feeds the fuzzer's bytes to the parser of the kernel's messages about devices.
@c(LLVMFuzzerTestOneInput)
public func fuzzOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    // SAFETY: libFuzzer's contract: `count` readable bytes at `start` for the length of the call.
    let bytes = unsafe Array(UnsafeBufferPointer(start: start, count: count))
    if let message = UeventMessage(parsing: bytes.span) {
        precondition(!message.action.isEmpty && message.devicePath.hasPrefix("/"))
        precondition(!message.deviceName.contains("/"))
    }
    return 0
}
