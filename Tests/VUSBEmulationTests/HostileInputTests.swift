// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBEmulation
import VUSBTestSupport

@Suite struct HostileInputTests {
    /// The fuzz target's promises, for a small set of inputs that's the same at every run.
    @Test(arguments: 0..<8) func randomTransfersBreakNoPromise(_ seed: UInt64) {
        var generator = SplitMix(state: seed)
        for _ in 0..<100 {
            let count = Int(generator.next() % 400)
            EmulationFuzzing.run((0..<count).map { _ in UInt8(truncatingIfNeeded: generator.next()) })
        }
    }

    @Test(arguments: ["zero", "serial", "keyboard", "zero,speed=super"])
    func everySetupPacketIsAnsweredAndTheDeviceStaysUsable(_ specification: String) async throws {
        let host = try await TestHost(specification)
        for request in UInt8.min...UInt8.max {
            for type: UInt8 in [0x00, 0x01, 0x02, 0x03, 0x21, 0x41, 0x80, 0x81, 0x82, 0xa1, 0xc0, 0xe0] {
                for (value, index) in [(0, 0), (0x0100, 0x81), (0xffff, 0xffff)] as [(UInt16, UInt16)] {
                    let completion = await host.control(type, request, value, index, length: 8)
                    #expect([.success, .stall].contains(completion.status))
                }
            }
        }
        #expect(await host.control(0x00, 9, 1).status == .success)
        #expect(await host.descriptor(1, length: 18).actualLength == 18)
        await host.close()
    }

    @Test func theLongestControlTransferIsAnswered() async throws {
        let host = try await TestHost("zero")
        #expect(await host.descriptor(2, length: 65535).actualLength < 256)
        #expect(await host.control(0x40, 0x5b, data: Array(repeating: 0, count: 65535)).status == .stall)
        await host.close()
    }

    /// Random numbers that are the same everywhere.
    private struct SplitMix {
        var state: UInt64

        mutating func next() -> UInt64 {
            state &+= 0x9e37_79b9_7f4a_7c15
            var z = state
            z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
            z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
            return z ^ (z >> 31)
        }
    }
}
