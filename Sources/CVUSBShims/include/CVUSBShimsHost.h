/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* For VUSBHost and VUSBRedir: headers that Swift's Glibc module leaves out. */

#include <dirent.h>
#include <linux/netlink.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

/* `d_name` is an array in the struct, which Swift imports as a tuple of 256. */
static inline const char *CVUSBShims_dirent_name(const struct dirent *entry) { return entry->d_name; }

/* sem_clockwait(3) by CLOCK_MONOTONIC, which glibc declares for _GNU_SOURCE only: 0, or -1 with errno. */
int CVUSBShims_sem_wait_until(sem_t *semaphore, long long nanoseconds);

/* accept4(2), for _GNU_SOURCE only: the peer's descriptor, non-blocking and closed on exec, or -1 with errno. */
int CVUSBShims_accept(int fd);
