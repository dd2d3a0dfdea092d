/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* pidfd_open(2): glibc's <sys/pidfd.h> isn't part of Swift's Glibc module, and syscall(2) is variadic.
 * Returns a descriptor with close-on-exec, or -1 with errno. */
int CVUSBShims_pidfd_open(int pid);
