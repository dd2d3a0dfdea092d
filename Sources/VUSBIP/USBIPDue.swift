// SPDX-License-Identifier: Apache-2.0

internal import NIOCore

/// What is to be answered, in the order in which the peer is told.
enum USBIPDue {
    /// That of a URB that has ended.
    case slot(Int)
    /// What wasn't carried out.
    case reply(USBIPReply)
    /// As above, with isochronous packets.
    case message(ByteBuffer)
}
