// SPDX-License-Identifier: Apache-2.0

private import CTestSupport

/// A golden record of the channel to a guest's module: its bytes and the fields that they stand for, as
/// kmod-shim/test/vectors.h has them. The module's tests go by the same.
package struct ChannelVector: Sendable {
    package let name: String
    /// With padding.
    package let bytes: [UInt8]
    /// Without padding.
    package let size: Int
    package let type: Int
    package let device: Int
    package let id: UInt64
    /// What these are depends on the type: vectors.h lists them.
    package let fields: [Int]

    package static let all: [ChannelVector] = (0..<CTestSupport_vector_count()).map { index in
        // SAFETY: constants of C, that many; each with as many bytes as it says and seven fields.
        let bytes = unsafe UnsafeBufferPointer(
            start: CTestSupport_vector_bytes(index), count: Int(CTestSupport_vector_byte_count(index)))
        return unsafe ChannelVector(
            name: String(cString: CTestSupport_vector_name(index)),
            bytes: Array(bytes),
            size: Int(CTestSupport_vector_size(index)),
            type: Int(CTestSupport_vector_type(index)),
            device: Int(CTestSupport_vector_device(index)),
            id: CTestSupport_vector_id(index),
            fields: (0..<7).map { Int(CTestSupport_vector_field(index, $0)) }
        )
    }
}
