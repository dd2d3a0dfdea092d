// SPDX-License-Identifier: Apache-2.0

import Glibc

/// Groups of this host, by name.
package enum Accounts {
    /// The number of a group; nil if there's none of that name.
    package static func group(_ name: String) -> UInt32? {
        var entry = unsafe Glibc.group()
        var found: UnsafeMutablePointer<Glibc.group>?
        var buffer = [CChar](repeating: 0, count: 1024)
        while true {
            // SAFETY: `entry` points into `buffer`, and only its number is read, while both live.
            let code = unsafe getgrnam_r(name, &entry, &buffer, buffer.count, &found)
            // A group with many members needs more room.
            guard code == ERANGE, buffer.count < 1 << 20 else {
                return unsafe code == 0 && found != nil ? entry.gr_gid : nil
            }
            buffer = [CChar](repeating: 0, count: buffer.count * 2)
        }
    }
}
