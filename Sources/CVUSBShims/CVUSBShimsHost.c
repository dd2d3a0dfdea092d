/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "CVUSBShimsHost.h"

#include <sys/socket.h>
#include <time.h>

int CVUSBShims_sem_wait_until(sem_t *semaphore, long long nanoseconds)
{
	struct timespec deadline = {
		.tv_sec = nanoseconds / 1000000000,
		.tv_nsec = nanoseconds % 1000000000,
	};

	return sem_clockwait(semaphore, CLOCK_MONOTONIC, &deadline);
}

int CVUSBShims_accept(int fd)
{
	return accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
}
