// SPDX-License-Identifier: Apache-2.0

/// The numbers of a character device that a front of ours serves.
///
/// A node with the numbers of one of the host's own devices would be that device, for whoever may open the node. So
/// there are no values of this type but in the ranges from which the kernel takes majors that nobody has reserved
/// (`alloc_chrdev_region`), where CUSE has its own: usbfs's 189, disks, terminals and memory can't be named.
package struct CharacterDeviceNumber: Sendable, Hashable, CustomStringConvertible {
    package let major: Int
    package let minor: Int

    /// include/linux/fs.h: CHRDEV_MAJOR_DYN_END to 254, then CHRDEV_MAJOR_DYN_EXT_END to CHRDEV_MAJOR_DYN_EXT_START.
    package static let majors = [234...254, 384...511]
    /// include/linux/kdev_t.h, MINORBITS.
    package static let minors = 0...(1 << 20 - 1)

    /// Of a node that nobody serves. Linux has no character devices above CHRDEV_MAJOR_MAX - 1, 511 (include/linux/fs.h):
    /// whoever opens it has ENXIO, also where somebody has mounted it again without `nodev`.
    package static let unservedMajor = 512

    /// Nil for numbers outside of these ranges.
    package init?(major: Int, minor: Int) {
        guard Self.majors.contains(where: { $0.contains(major) }), Self.minors.contains(minor) else { return nil }
        self.major = major
        self.minor = minor
    }

    /// As sysfs prints it in `dev`.
    package var description: String { "\(major):\(minor)" }
}
