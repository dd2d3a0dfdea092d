// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// How many files the process may have open: a device takes a few, a client of the control interface one.
enum OpenFileLimit {
    /// Raises it as far as the process may by itself.
    /// - Returns: the limit now, or nil where it can't be told.
    static func raise() -> UInt64? {
        // SAFETY: these calls read or write the one value that they are given.
        var limit = rlimit()
        guard unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return nil }
        guard limit.rlim_cur < limit.rlim_max else { return UInt64(limit.rlim_cur) }
        limit.rlim_cur = limit.rlim_max
        // A limit that can't be raised is a lower limit, not a failure.
        _ = unsafe setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        guard unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return nil }
        return UInt64(limit.rlim_cur)
    }
}
