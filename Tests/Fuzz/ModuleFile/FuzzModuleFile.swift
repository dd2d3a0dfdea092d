// SPDX-License-Identifier: Apache-2.0

import VUSBCore
import VUSBVMM

/// Feeds the fuzzer's bytes to the parser of kernel modules, as a guest's own module would come.
@c(LLVMFuzzerTestOneInput)
public func fuzzOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    // SAFETY: libFuzzer's contract: `count` readable bytes at `start` for the length of the call.
    let bytes = unsafe Array(UnsafeBufferPointer(start: start, count: count))
    do {
        let file = try ModuleFile(parsing: bytes.span, path: "/x.ko")
        precondition(([file.name] + file.depends).allSatisfy { ModuleFile.isName($0) })
        precondition(!file.vermagic.release.contains("/") && !file.vermagic.release.isEmpty)
        precondition(Vermagic(file.vermagic.description) == file.vermagic)
        precondition((file.version + file.sourceVersion).unicodeScalars.allSatisfy { $0.value >= 0x20 })
    } catch {
        precondition(error.code == .invalid && error.remedy != nil)
    }
    return 0
}
