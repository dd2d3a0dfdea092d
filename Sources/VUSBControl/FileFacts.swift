// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials

/// What stat(2) tells of a path, without following a last symbolic link.
struct FileFacts: Sendable, Equatable {
    var device: UInt64
    var inode: UInt64
    var isSocket: Bool
    var isDirectory: Bool

    /// Nil when there's nothing at the path, or it can't be looked at.
    init?(_ path: String) {
        let attributes: [FileAttributeKey: Any]
        do {
            attributes = try FileManager.default.attributesOfItem(atPath: path)
        } catch {
            return nil
        }
        guard let device = Self.number(attributes[.systemNumber]),
            let inode = Self.number(attributes[.systemFileNumber])
        else { return nil }
        self.device = device
        self.inode = inode
        let type = attributes[.type] as? FileAttributeType
        isSocket = type == .typeSocket
        isDirectory = type == .typeDirectory
    }

    /// An integer, or an NSNumber where all of Foundation is linked.
    private static func number(_ value: Any?) -> UInt64? {
        (value as? any BinaryInteger).map { UInt64(truncatingIfNeeded: $0) } ?? value as? UInt64
    }
}
