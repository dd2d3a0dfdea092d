// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBTestSupport

/// What the fuzz target does, with bytes from a generator: it also runs where no fuzzer is.
@Suite("StorageWatch.md: bytes that mean nothing")
struct StorageFuzzTests {
    @Test("random bytes neither trap nor break a promise", arguments: 0..<4)
    func random(_ seed: UInt64) {
        var generator = SplitMix(seed)
        for _ in 0..<100 {
            let count = Int(generator.next() % 600)
            StorageFuzzing.run((0..<count).map { _ in UInt8(truncatingIfNeeded: generator.next()) })
        }
    }

    /// Operation codes that matter and few tags: further in than random bytes come.
    @Test("random commands neither trap nor break a promise", arguments: 0..<4)
    func commands(_ seed: UInt64) {
        let codes: [UInt8] = [0x2a, 0x35, 0x1a, 0x15, 0x03, 0x25, 0x04, 0x8a, 0x91, 0x1b]
        var generator = SplitMix(seed)
        for _ in 0..<50 {
            var input: [UInt8] = []
            for _ in 0..<40 {
                let choice = UInt8(generator.next() % 10)
                var bytes = (0..<40).map { _ in UInt8(generator.next() % 4) }
                let code = codes[Int(generator.next() % UInt64(codes.count))]
                // Behind the signature and the header of either transport.
                bytes[choice == 0 ? 10 : 5] = choice == 0 ? 10 : bytes[5]
                bytes[choice == 0 ? 11 : 15] = code
                input += [choice] + bytes
            }
            StorageFuzzing.run(input)
        }
    }
}

/// A generator with a seed: what fails, fails again.
struct SplitMix: RandomNumberGenerator {
    private var state: UInt64

    init(_ seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var value = state
        value = (value ^ (value >> 30)) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ (value >> 27)) &* 0x94d0_49bb_1331_11eb
        return value ^ (value >> 31)
    }
}
