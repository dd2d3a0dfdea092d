// SPDX-License-Identifier: Apache-2.0

import Testing
import VUSBCore
import VUSBTestSupport

/// A device that lies: its bytes, and the offset that the refusal must name.
struct Lie: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let offset: Int
    let bytes: [UInt8]

    init(_ name: String, at offset: Int, _ bytes: [UInt8]) {
        testDescription = name
        self.offset = offset
        self.bytes = bytes
    }

    /// Behind a device descriptor of 18 bytes, the configuration's header of 9: its parts begin at 27.
    static func configuration(
        _ name: String,
        at offset: Int,
        _ parts: [[UInt8]],
        interfaces: UInt8? = nil,
        totalLength: UInt16? = nil
    ) -> Lie {
        let configuration = DescriptorBytes.configuration(parts, interfaces: interfaces, totalLength: totalLength)
        return Lie(name, at: offset, DescriptorBytes.device() + configuration)
    }
}

@Suite("Descriptors that lie are refused, with the offset")
struct DescriptorRefusalTests {
    private static let bulk = DescriptorBytes.endpoint(0x81)
    private static let noEndpoint = DescriptorBytes.interface(0, endpoints: 0)
    private static let oneEndpoint = DescriptorBytes.interface(0, endpoints: 1)
    private static let next = DescriptorBytes.interface(1, endpoints: 0)
    private static let good = DescriptorBytes.configuration([oneEndpoint, bulk])

    private static func numbered(_ count: UInt8) -> [[UInt8]] {
        (0..<count).map { DescriptorBytes.interface($0, endpoints: 0) }
    }

    private static func alternates(_ count: UInt8) -> [[UInt8]] {
        (0..<count).map { DescriptorBytes.interface(0, alternate: $0, endpoints: 0) }
    }

    @Test(arguments: lengths + configurations + interfaces + endpoints)
    func lie(_ lie: Lie) {
        let error = #expect(throws: DescriptorError.self) { try Descriptors(parsing: lie.bytes) }
        #expect(error?.offset == lie.offset, "\(error?.description ?? "")")
    }

    static let lengths: [Lie] = [
        Lie("nothing at all", at: 0, []),
        Lie("one byte", at: 0, [18]),
        Lie("device of 17 bytes", at: 0, Array(DescriptorBytes.device().prefix(17))),
        Lie("device with bLength 0", at: 0, [0] + DescriptorBytes.device().dropFirst() + good),
        Lie("device with bLength 1", at: 0, [1] + DescriptorBytes.device().dropFirst() + good),
        Lie("device with bLength 17", at: 0, [17] + DescriptorBytes.device().dropFirst() + good),
        Lie("device with bLength 255", at: 0, [255] + DescriptorBytes.device().dropFirst() + good),
        Lie("device of another type", at: 1, [18, 2] + DescriptorBytes.device().dropFirst(2) + good),
        Lie("64 KiB and one byte", at: 65536, DescriptorBytes.device() + Array(repeating: 2, count: 65519)),
        Lie("configuration with bLength 8", at: 18, DescriptorBytes.device() + [8, 2, 8, 0, 0, 1, 0, 0x80]),
        .configuration("interface with bLength 0", at: 27, [[0, 4, 0, 0, 0, 0xff, 0, 0, 0]], interfaces: 1),
        .configuration("interface with bLength 1", at: 27, [[1, 4, 0, 0, 0, 0xff, 0, 0, 0]], interfaces: 1),
        .configuration("interface with bLength 8", at: 27, [[8, 4, 0, 0, 0, 0xff, 0, 0]], interfaces: 1),
        .configuration("interface past the end", at: 27, [[10, 4, 0, 0, 0, 0xff, 0, 0, 0]], interfaces: 1),
        .configuration(
            "endpoint with bLength 0", at: 36, [oneEndpoint, [0, 5, 0x81, 2, 0, 2, 0]]),
        .configuration(
            "endpoint with bLength 6", at: 36, [oneEndpoint, [6, 5, 0x81, 2, 0, 2]]),
        .configuration(
            "endpoint past the end", at: 36, [oneEndpoint, [9, 5, 0x81, 2, 0, 2, 0]]),
        .configuration(
            "class-specific with bLength 0", at: 36, [noEndpoint, [0, 0x24, 1]]),
        .configuration(
            "association of 7 bytes", at: 27, [[7, 11, 0, 1, 2, 2, 1], noEndpoint]),
        .configuration(
            "companion of 5 bytes", at: 43,
            [oneEndpoint, bulk, [5, 0x30, 0, 0, 0]]
        ),
    ]

    static let configurations: [Lie] = [
        Lie("bMaxPacketSize0 0", at: 7, DescriptorBytes.device(maxPacketSize0: 0) + good),
        Lie("bMaxPacketSize0 255", at: 7, DescriptorBytes.device(maxPacketSize0: 255) + good),
        Lie("no configuration announced", at: 17, DescriptorBytes.device(configurations: 0)),
        Lie("nine configurations", at: 17, DescriptorBytes.device(configurations: 9) + good),
        Lie("one configuration announced, none there", at: 17, DescriptorBytes.device()),
        Lie("two configurations announced, one there", at: 17, DescriptorBytes.device(configurations: 2) + good),
        Lie("one configuration announced, two there", at: 43, DescriptorBytes.device() + good + good),
        Lie("a byte behind the last configuration", at: 43, DescriptorBytes.device() + good + [0]),
        Lie("the same value twice", at: 48, DescriptorBytes.device(configurations: 2) + good + good),
        Lie("bConfigurationValue 0", at: 23, DescriptorBytes.device() + DescriptorBytes.configuration([], value: 0)),
        Lie(
            "no configuration there", at: 19, DescriptorBytes.device() + [9, 4, 9, 0, 0, 1, 0, 0, 0]),
        .configuration("wTotalLength 8", at: 20, [], totalLength: 8),
        .configuration("wTotalLength 0", at: 20, [], totalLength: 0),
        .configuration(
            "wTotalLength past the end", at: 20, [noEndpoint], totalLength: 19),
        .configuration("wTotalLength 65535", at: 20, [noEndpoint], totalLength: 65535),
        .configuration(
            "wTotalLength within an endpoint", at: 36, [oneEndpoint, bulk],
            totalLength: 21),
        .configuration(
            "wTotalLength before the endpoint", at: 31, [oneEndpoint, bulk],
            totalLength: 18),
        .configuration("a device inside of a configuration", at: 28, [DescriptorBytes.device()], interfaces: 0),
        .configuration("a configuration inside of another", at: 28, [DescriptorBytes.configuration([])], interfaces: 0),
    ]

    static let interfaces: [Lie] = [
        .configuration("255 interfaces", at: 22, [noEndpoint], interfaces: 255),
        .configuration("33 interfaces", at: 22, numbered(33)),
        .configuration(
            "three interfaces announced, one there", at: 22, [noEndpoint], interfaces: 3
        ),
        .configuration("one interface announced, none there", at: 22, [], interfaces: 1),
        .configuration(
            "one interface announced, two there", at: 38,
            [noEndpoint, next], interfaces: 1
        ),
        .configuration(
            "two alternates counted as two interfaces", at: 22,
            [noEndpoint, DescriptorBytes.interface(0, alternate: 1, endpoints: 0)],
            interfaces: 2
        ),
        .configuration(
            "the same alternate twice", at: 38,
            [noEndpoint, noEndpoint]
        ),
        .configuration(
            "129 alternates", at: 27 + 128 * 9 + 3,
            alternates(129)
        ),
        .configuration("31 endpoints announced", at: 31, [DescriptorBytes.interface(0, endpoints: 31)]),
        .configuration("255 endpoints announced", at: 31, [DescriptorBytes.interface(0, endpoints: 255)]),
    ]

    static let endpoints: [Lie] = [
        .configuration("an endpoint announced and missing", at: 31, [oneEndpoint]),
        .configuration(
            "an endpoint missing, another interface behind", at: 31,
            [DescriptorBytes.interface(0, endpoints: 2), bulk, next]
        ),
        .configuration("an endpoint that isn't announced", at: 36, [noEndpoint, bulk]),
        .configuration("an endpoint before any interface", at: 27, [bulk, noEndpoint]),
        .configuration("an endpoint twice", at: 45, [DescriptorBytes.interface(0, endpoints: 2), bulk, bulk]),
        .configuration(
            "an endpoint in two interfaces", at: 54,
            [oneEndpoint, bulk, DescriptorBytes.interface(1, endpoints: 1), bulk]
        ),
        .configuration(
            "endpoint 0", at: 38, [oneEndpoint, DescriptorBytes.endpoint(0)]),
        .configuration(
            "endpoint 0x80", at: 38, [oneEndpoint, DescriptorBytes.endpoint(0x80)]),
        .configuration(
            "endpoint 0x91", at: 38, [oneEndpoint, DescriptorBytes.endpoint(0x91)]),
        .configuration(
            "wMaxPacketSize 0 of a bulk endpoint", at: 40,
            [oneEndpoint, DescriptorBytes.endpoint(0x81, maxPacketSize: 0)]
        ),
        .configuration(
            "wMaxPacketSize 0 of an interrupt endpoint", at: 40,
            [oneEndpoint, DescriptorBytes.endpoint(0x81, .interrupt, maxPacketSize: 0)]
        ),
        .configuration(
            "wMaxPacketSize 1025", at: 40,
            [oneEndpoint, DescriptorBytes.endpoint(0x81, maxPacketSize: 1025)]
        ),
        .configuration(
            "four packets a microframe", at: 40,
            [
                oneEndpoint,
                DescriptorBytes.endpoint(0x81, .isochronous, maxPacketSize: 0x1c00),
            ]
        ),
        .configuration("a companion without an interface", at: 27, [DescriptorBytes.companion()], interfaces: 0),
        .configuration(
            "a companion without an endpoint", at: 36,
            [noEndpoint, DescriptorBytes.companion()]
        ),
        .configuration(
            "a companion behind the next interface", at: 52,
            [
                oneEndpoint, bulk, next,
                DescriptorBytes.companion(),
            ]
        ),
        .configuration(
            "two companions", at: 49,
            [
                oneEndpoint, bulk, DescriptorBytes.companion(),
                DescriptorBytes.companion(),
            ]
        ),
        .configuration(
            "bMaxBurst 16", at: 45,
            [oneEndpoint, bulk, DescriptorBytes.companion(burst: 16)]
        ),
        .configuration(
            "an isochronous companion alone", at: 43,
            [oneEndpoint, bulk, [8, 0x31, 0, 0, 0, 0, 1, 0]]
        ),
    ]

    @Test func errorNamesTheOffsetAndTheField() {
        let lie = DescriptorBytes.device() + DescriptorBytes.configuration([], interfaces: 3)
        let error = #expect(throws: DescriptorError.self) { try Descriptors(parsing: lie) }
        #expect(error?.description == "descriptor at byte 22: bNumInterfaces 3, but there are 0")
    }
}

@Suite("Descriptors at the edge of what is allowed")
struct DescriptorLimitTests {
    @Test func thirtyEndpointsInOneInterface() throws {
        let endpoints = (UInt8(1)...15).flatMap { [DescriptorBytes.endpoint($0), DescriptorBytes.endpoint($0 | 0x80)] }
        let descriptors = try Descriptors(
            parsing: DescriptorBytes.device()
                + DescriptorBytes.configuration([DescriptorBytes.interface(0, endpoints: 30)] + endpoints)
        )
        #expect(ActiveSettings(descriptors, configurationValue: 1).endpoints.count == 30)
    }

    @Test func interfacesNumberedWithGaps() throws {
        let numbers: [UInt8] = [0, 2, 3, 255]
        let descriptors = try Descriptors(
            parsing: DescriptorBytes.device()
                + DescriptorBytes.configuration(numbers.map { DescriptorBytes.interface($0, endpoints: 0) })
        )
        #expect(descriptors.configurations[0].interfaces.map(\.bInterfaceNumber.rawValue) == numbers)
    }

    @Test func thirtyTwoInterfacesOf128Alternates() throws {
        var parts: [[UInt8]] = []
        for number: UInt8 in 0..<32 {
            for alternate: UInt8 in 0..<128 {
                parts.append(DescriptorBytes.interface(number, alternate: alternate, endpoints: 0))
            }
        }
        let descriptors = try Descriptors(
            parsing: DescriptorBytes.device() + DescriptorBytes.configuration(parts, interfaces: 32)
        )
        #expect(descriptors.configurations[0].interfaces.count == 4096)
        #expect(ActiveSettings(descriptors, configurationValue: 1).alternates.count == 32)
    }

    @Test func twoConfigurationsAreApart() throws {
        let first = DescriptorBytes.configuration([
            DescriptorBytes.interface(0, endpoints: 1), DescriptorBytes.endpoint(0x81),
        ])
        let second = DescriptorBytes.configuration(
            [DescriptorBytes.interface(0, endpoints: 1), DescriptorBytes.endpoint(0x82)],
            value: 7
        )
        let descriptors = try Descriptors(
            parsing: DescriptorBytes.device(configurations: 2) + first + second
        )
        #expect(descriptors.configurations.map(\.bConfigurationValue) == [1, 7])
        #expect(ActiveSettings(descriptors, configurationValue: 7).endpoints[0].bEndpointAddress.rawValue == 0x82)
    }

    @Test func longerDescriptorsThanKnownAreRead() throws {
        let descriptors = try Descriptors(
            parsing: DescriptorBytes.device()
                + DescriptorBytes.configuration([
                    [10] + DescriptorBytes.interface(0, endpoints: 1).dropFirst() + [0xee],
                    [8] + DescriptorBytes.endpoint(0x81).dropFirst() + [0xee],
                ])
        )
        #expect(descriptors.configurations[0].interfaces[0].endpoints.count == 1)
    }

    @Test func isochronousCompanionCountsBytesBeyondSixteenBits() throws {
        let descriptors = try Descriptors(
            parsing: DescriptorBytes.device(bcdUSB: 0x0320, maxPacketSize0: 9)
                + DescriptorBytes.configuration([
                    DescriptorBytes.interface(0, endpoints: 1),
                    DescriptorBytes.endpoint(0x81, .isochronous, maxPacketSize: 1024, interval: 1),
                    DescriptorBytes.companion(burst: 15, attributes: 0x80, bytesPerInterval: 1),
                    // 98304 bytes an interval, as USB 3.2, 9.6.8, allows.
                    [8, 0x31, 0, 0, 0x00, 0x80, 0x01, 0x00],
                ])
        )
        #expect(descriptors.configurations[0].interfaces[0].endpoints[0].maxBytesPerInterval == 98304)
    }
}
