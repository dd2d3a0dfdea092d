/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "CVUSBShimsProcess.h"

#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

int CVUSBShims_pidfd_open(int pid)
{
	return (int)syscall(SYS_pidfd_open, pid, 0);
}
