/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Whether the path still names the file that is open: 1 or 0. In C because `struct stat` belongs to whichever Clang
 * module Swift saw first. */
int CVUSBShims_is_same_file(int fd, const char *path);

/* preadv2(2) and pwritev2(2) and their flags aren't part of Swift's Glibc module. One buffer each.
 * They return bytes moved or a negative errno; -EINTR is retried. */

/* nowait: -EAGAIN rather than wait for the medium, where the file system can tell (else -EOPNOTSUPP). */
long CVUSBShims_pread(int fd, void *bytes, unsigned long count, long offset, int nowait);

/* As above; durable: on the medium when it returns. */
long CVUSBShims_pwrite(int fd, const void *bytes, unsigned long count, long offset, int nowait, int durable);

/* Whether the path, no link, is a directory of the caller's that nobody else may write to: 1 or 0. */
int CVUSBShims_is_own_directory(const char *path);
