/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "CVUSBShimsModule.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

int CVUSBShims_memory_file(const char *name)
{
	int fd = memfd_create(name, MFD_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

int CVUSBShims_finit_module(int fd, const char *parameters)
{
	return syscall(SYS_finit_module, fd, parameters, 0) < 0 ? -errno : 0;
}

int CVUSBShims_output_pipe(int *read_end, int *write_end)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	*read_end = ends[0];
	*write_end = ends[1];
	return fcntl(ends[0], F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
}

int CVUSBShims_close_above(void *spawn_file_actions, int fd)
{
	return posix_spawn_file_actions_addclosefrom_np(spawn_file_actions, fd + 1);
}

int CVUSBShims_delete_module(const char *name, unsigned int flags)
{
	return syscall(SYS_delete_module, name, flags) < 0 ? -errno : 0;
}
