// SPDX-License-Identifier: Apache-2.0

/// Why a SCSI command failed (SPC-4, 4.5): sense key, additional sense code and its qualifier.
struct Sense: Sendable, Equatable {
    let key: UInt8
    let code: UInt8
    var qualifier: UInt8 = 0

    static let none = Sense(key: 0, code: 0)
    static let mediumNotPresent = Sense(key: 2, code: 0x3a)
    static let readError = Sense(key: 3, code: 0x11)
    static let writeError = Sense(key: 3, code: 0x0c)
    static let invalidCommand = Sense(key: 5, code: 0x20)
    static let outOfRange = Sense(key: 5, code: 0x21)
    static let invalidField = Sense(key: 5, code: 0x24)
    static let removalPrevented = Sense(key: 5, code: 0x53, qualifier: 2)
    static let writeProtected = Sense(key: 7, code: 0x27)

    /// Fixed format, current error (SPC-4, table 53).
    var bytes: [UInt8] {
        [0x70, 0, key, 0, 0, 0, 0, 10, 0, 0, 0, 0, code, qualifier, 0, 0, 0, 0]
    }
}
