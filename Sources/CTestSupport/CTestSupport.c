// SPDX-License-Identifier: Apache-2.0

#define _GNU_SOURCE
#include "CTestSupport.h"

#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

// Tells ThreadSanitizer of the locks of Synchronization.Mutex.
//
// Its fast paths are compiled into our code and are seen. But with contention a lock goes from hand to hand inside of
// the standard library and the kernel (FUTEX_LOCK_PI), neither of which is instrumented, and every access under it would
// be reported as a race. So the two slow functions are interposed: they call the library's own, and say what was
// released and acquired. A toolchain that names them otherwise doesn't call these: the false reports are back, nothing
// else happens.
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)

#define LOCK_SLOW "$s15Synchronization12_MutexHandleV9_lockSlowyys6UInt32VF"
#define UNLOCK_SLOW "$s15Synchronization12_MutexHandleV11_unlockSlowyyF"

void __tsan_acquire(void *address);
void __tsan_release(void *address);

static void *find(void **cache, const char *name) {
    void *found = __atomic_load_n(cache, __ATOMIC_RELAXED);
    if (found == NULL) {
        found = dlsym(RTLD_NEXT, name);
        if (found == NULL) abort();
        __atomic_store_n(cache, found, __ATOMIC_RELAXED);
    }
    return found;
}

__attribute__((swiftcall)) void CTestSupport_lock_slow(uint32_t thread, __attribute__((swift_context)) void *mutex)
    __asm__(LOCK_SLOW);
__attribute__((swiftcall)) void CTestSupport_unlock_slow(__attribute__((swift_context)) void *mutex)
    __asm__(UNLOCK_SLOW);

typedef __attribute__((swiftcall)) void (*lock_slow)(uint32_t, __attribute__((swift_context)) void *);
typedef __attribute__((swiftcall)) void (*unlock_slow)(__attribute__((swift_context)) void *);

__attribute__((swiftcall)) void CTestSupport_lock_slow(uint32_t thread, __attribute__((swift_context)) void *mutex) {
    static void *real;
    ((lock_slow)find(&real, LOCK_SLOW))(thread, mutex);
    __tsan_acquire(mutex);
}

__attribute__((swiftcall)) void CTestSupport_unlock_slow(__attribute__((swift_context)) void *mutex) {
    static void *real;
    __tsan_release(mutex);
    ((unlock_slow)find(&real, UNLOCK_SLOW))(mutex);
}

#endif
#endif
