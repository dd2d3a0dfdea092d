// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// A reference of which each thread has its own, nil at first: for C callbacks and the like, which aren't told whose they
/// are. It's to be a static property: what `key` names is never given back.
@safe
package struct ThreadReference<Object: AnyObject>: Sendable {
    private let key: pthread_key_t

    package init() {
        var key = pthread_key_t()
        let code = unsafe pthread_key_create(&key, nil)
        precondition(code == 0, "the process has used up its \(PTHREAD_KEYS_MAX) thread keys")
        self.key = key
    }

    /// The calling thread's, which it keeps without owning it.
    ///
    /// SAFETY: whoever sets it keeps the object alive until it's set to something else, or the thread ends.
    package var value: Object? {
        unsafe pthread_getspecific(key).map { unsafe Unmanaged<Object>.fromOpaque($0).takeUnretainedValue() }
    }

    /// Where the system has no memory for it, it's nil as before.
    package func set(_ object: Object?) {
        if let object {
            unsafe pthread_setspecific(key, Unmanaged.passUnretained(object).toOpaque())
        } else {
            pthread_setspecific(key, nil)
        }
    }
}
