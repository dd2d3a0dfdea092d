// SPDX-License-Identifier: Apache-2.0

package import VUSBCore

/// Makes URBs as fronts do. The pool must have room: these are tests.
package enum TestURB {
    /// An IN transfer of up to `count` bytes.
    package static func `in`(
        _ endpoint: EndpointAddress,
        count: Int,
        pool: BufferPool,
        handler: any URBHandler,
        context: UInt64 = 0
    ) -> URB {
        URB(
            endpoint: endpoint,
            buffer: pool.take(count),
            requestedLength: count,
            handler: handler,
            context: context
        )
    }

    package static func out(
        _ endpoint: EndpointAddress,
        _ bytes: [UInt8],
        pool: BufferPool,
        handler: any URBHandler,
        context: UInt64 = 0
    ) -> URB {
        var buffer = pool.take(bytes.count)
        buffer?.copy(bytes)
        return URB(
            endpoint: endpoint,
            buffer: buffer,
            requestedLength: bytes.count,
            handler: handler,
            context: context
        )
    }

    /// A control transfer; `data` goes out, and counts only where the setup packet says so.
    package static func control(
        _ setup: SetupPacket,
        data: [UInt8] = [],
        pool: BufferPool,
        handler: any URBHandler,
        context: UInt64 = 0
    ) -> URB {
        var buffer = setup.wLength > 0 ? pool.take(Int(setup.wLength)) : nil
        if setup.direction == .out { buffer?.copy(data) }
        return URB(
            endpoint: .control,
            setup: setup,
            buffer: buffer,
            requestedLength: Int(setup.wLength),
            handler: handler,
            context: context
        )
    }

    /// An isochronous transfer of packets of `lengths` bytes, one behind the other.
    package static func isochronous(
        _ endpoint: EndpointAddress,
        lengths: [UInt32],
        pool: BufferPool,
        handler: any URBHandler,
        context: UInt64 = 0
    ) -> URB {
        let total = lengths.reduce(0) { $0 + Int($1) }
        var urb = URB(
            endpoint: endpoint,
            buffer: pool.take(total),
            requestedLength: total,
            handler: handler,
            context: context
        )
        var packets = IsoPacketTable(count: lengths.count, from: pool)
        var offset: UInt32 = 0
        for (index, length) in lengths.enumerated() {
            packets?[index] = IsoPacket(offset: offset, length: length)
            offset += length
        }
        urb.packets = packets
        return urb
    }
}
