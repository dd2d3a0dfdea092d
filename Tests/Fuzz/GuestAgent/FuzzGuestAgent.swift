// SPDX-License-Identifier: Apache-2.0

@testable import VUSBVMM

/// Feeds the fuzzer's bytes, line by line, to the parser of what a guest's agent says.
@c(LLVMFuzzerTestOneInput)
public func fuzzOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    // SAFETY: libFuzzer's contract: `count` readable bytes at `start` for the length of the call.
    let bytes = unsafe Array(UnsafeBufferPointer(start: start, count: count))
    var splitter = LineSplitter(limit: 1024)
    splitter.append(bytes)
    while let line = splitter.next() {
        guard case .bytes(let line) = line else { continue }
        let parsed = AgentLine(parsing: line)
        precondition(parsed.isDelimited == line.contains(0xFF))
        switch parsed.answer {
        case .success(let value): _ = AgentCommands(value)
        case .failure(let refusal):
            precondition(refusal.text.unicodeScalars.count <= 500)
            precondition(!refusal.text.unicodeScalars.contains { $0.value < 0x20 })
        case nil: break
        }
    }
    return 0
}
