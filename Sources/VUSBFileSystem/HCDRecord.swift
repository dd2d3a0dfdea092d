// SPDX-License-Identifier: Apache-2.0

internal import CVUSBShims

/// The fixed part of a record of the channel: `struct vusb_record` of vusb_abi.h, 48 bytes, little-endian. Fields are
/// read and written by their offsets in it, which tests compare with those of the C structs.
struct HCDRecord: Sendable, Equatable {
    static let byteCount = 48
    /// Records begin at multiples of it.
    static let alignment = Int(VUSB_ALIGN)

    /// Who sends what; the cases are those of `enum vusb_type`.
    enum Kind: UInt16, Sendable {
        case hello = 1
        case added
        case remove
        case removed
        case submit
        case complete
        case cancel
        case reset
        case resetDone
        case quiesce
        case quiesced
        case resume
        case resumed
        case wait
        case ping
        case pong
        case bye
    }

    private var words: InlineArray<12, UInt32>

    /// All zero but for what is given.
    init(_ kind: Kind, device: UInt16 = 0, id: UInt64 = 0, payload: Int = 0) {
        words = InlineArray(repeating: 0)
        size = UInt32(clamping: Self.byteCount + payload)
        type = kind.rawValue
        self.device = device
        self.id = id
    }

    /// Reads 48 bytes at `source`.
    @unsafe
    init(reading source: UnsafeRawPointer) {
        words = InlineArray(repeating: 0)
        for index in 0..<12 {
            words[index] = UInt32(littleEndian: unsafe source.loadUnaligned(fromByteOffset: index * 4, as: UInt32.self))
        }
    }

    /// Writes 48 bytes to `target`.
    @unsafe
    func write(to target: UnsafeMutableRawPointer) {
        for index in 0..<12 {
            unsafe target.storeBytes(of: words[index].littleEndian, toByteOffset: index * 4, as: UInt32.self)
        }
    }

    static func == (left: HCDRecord, right: HCDRecord) -> Bool {
        (0..<12).allSatisfy { left.words[$0] == right.words[$0] }
    }

    // MARK: - Fields by offset

    func word(_ offset: Int) -> UInt32 { words[offset / 4] }

    mutating func setWord(_ offset: Int, _ value: UInt32) { words[offset / 4] = value }

    func half(_ offset: Int) -> UInt16 { UInt16(truncatingIfNeeded: words[offset / 4] >> UInt32(offset % 4 * 8)) }

    mutating func setHalf(_ offset: Int, _ value: UInt16) {
        let shift = UInt32(offset % 4 * 8)
        words[offset / 4] = words[offset / 4] & ~(0xffff << shift) | UInt32(value) << shift
    }

    func byte(_ offset: Int) -> UInt8 { UInt8(truncatingIfNeeded: words[offset / 4] >> UInt32(offset % 4 * 8)) }

    mutating func setByte(_ offset: Int, _ value: UInt8) {
        let shift = UInt32(offset % 4 * 8)
        words[offset / 4] = words[offset / 4] & ~(0xff << shift) | UInt32(value) << shift
    }

    // MARK: - All records

    /// Bytes of the record with its payload, without padding.
    var size: UInt32 {
        get { word(0) }
        set { setWord(0, newValue) }
    }

    var type: UInt16 {
        get { half(4) }
        set { setHalf(4, newValue) }
    }

    /// Nil for a type that the protocol doesn't have.
    var kind: Kind? { Kind(rawValue: type) }

    /// A handle, 0 for none.
    var device: UInt16 {
        get { half(6) }
        set { setHalf(6, newValue) }
    }

    var id: UInt64 {
        get { UInt64(word(8)) | UInt64(word(12)) << 32 }
        set {
            setWord(8, UInt32(truncatingIfNeeded: newValue))
            setWord(12, UInt32(truncatingIfNeeded: newValue >> 32))
        }
    }

    /// The slot that a URB's id names, `VUSB_ID_SLOT`.
    var slot: Int { Int(half(8)) }

    /// Bytes behind the fixed part; negative where `size` is below that.
    var payloadSize: Int { Int(size) - Self.byteCount }

    /// Bytes from the end of a record of `size` bytes to the next one's beginning.
    static func padding(_ size: Int) -> Int { -size & (alignment - 1) }
}
