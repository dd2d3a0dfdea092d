// SPDX-License-Identifier: Apache-2.0

/// What a program writes to a clock.
enum ClockCommand: Equatable {
    case stop
    /// Nanoseconds.
    case run(period: UInt64)

    /// In microseconds.
    static let periods: ClosedRange<UInt64> = 100...60_000_000
    /// The most bytes that a number and its newline may have; more of them are leading zeros, and nobody's.
    static let byteLimit = 32

    /// Decimal digits, then a newline or nothing. Nil for anything else, and for what is no period.
    init?(_ text: [UInt8]) {
        let digits = text.last == UInt8(ascii: "\n") ? text.dropLast() : text[...]
        guard !digits.isEmpty, text.count <= Self.byteLimit else { return nil }
        var number: UInt64 = 0
        for byte in digits {
            guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) else { return nil }
            number = number * 10 + UInt64(byte - UInt8(ascii: "0"))
            guard number <= Self.periods.upperBound else { return nil }
        }
        guard number != 0 else {
            self = .stop
            return
        }
        guard Self.periods.contains(number) else { return nil }
        self = .run(period: number * 1000)
    }
}

/// What a read of a clock returns: time, frame and missed periods. It has its bytes in itself: nothing is allocated.
struct ClockLine {
    /// Two numbers of 20 digits, " -1 " and the newline are 45; a frame number may have 10 digits some day.
    private var bytes = InlineArray<64, UInt8>(repeating: 0)
    private(set) var count = 0

    /// - Parameter time: nanoseconds.
    init(time: UInt64, missed: UInt64) {
        append(time)
        append(UInt8(ascii: " "))
        // The frame: nobody tells it.
        append(UInt8(ascii: "-"))
        append(UInt64(1))
        append(UInt8(ascii: " "))
        append(missed)
        append(UInt8(ascii: "\n"))
    }

    /// The bytes are valid during the call.
    @unsafe
    func withBytes(_ body: (UnsafeRawBufferPointer) -> Void) {
        unsafe bytes.span.extracting(first: count).withUnsafeBytes(body)
    }

    private mutating func append(_ byte: UInt8) {
        bytes[count] = byte
        count += 1
    }

    private mutating func append(_ number: UInt64) {
        var power: UInt64 = 1
        while number / power >= 10 { power *= 10 }
        while power > 0 {
            append(UInt8(ascii: "0") + UInt8(number / power % 10))
            power /= 10
        }
    }
}
