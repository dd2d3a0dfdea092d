// SPDX-License-Identifier: Apache-2.0

internal import VUSBCore

/// A small file whose content is that of the moment it was opened, as in sysfs.
final class AttributeFile: OpenFile {
    private let content: [UInt8]

    init(content: [UInt8]) { self.content = content }

    func read(_ reply: consuming sending FUSEReply, size: Int, offset: Int64, isNonblocking: Bool) {
        let start = Int(min(max(0, offset), Int64(content.count)))
        reply.data(Array(content[start..<min(start + size, content.count)]))
    }
}
