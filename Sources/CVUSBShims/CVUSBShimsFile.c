/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "CVUSBShimsFile.h"

#include <errno.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

long CVUSBShims_pread(int fd, void *bytes, unsigned long count, long offset, int nowait)
{
	struct iovec part = { bytes, count };
	long result;

	do {
		result = preadv2(fd, &part, 1, offset, nowait ? RWF_NOWAIT : 0);
	} while (result < 0 && errno == EINTR);
	return result < 0 ? -errno : result;
}

long CVUSBShims_pwrite(int fd, const void *bytes, unsigned long count, long offset, int nowait, int durable)
{
	struct iovec part = { (void *)bytes, count };
	long result;

	do {
		result = pwritev2(fd, &part, 1, offset, (nowait ? RWF_NOWAIT : 0) | (durable ? RWF_DSYNC : 0));
	} while (result < 0 && errno == EINTR);
	return result < 0 ? -errno : result;
}

int CVUSBShims_is_same_file(int fd, const char *path)
{
	struct stat open_file, named_file;

	return fstat(fd, &open_file) == 0 && stat(path, &named_file) == 0 && open_file.st_ino == named_file.st_ino &&
	       open_file.st_dev == named_file.st_dev;
}

int CVUSBShims_is_own_directory(const char *path)
{
	struct stat file;

	return lstat(path, &file) == 0 && S_ISDIR(file.st_mode) && file.st_uid == geteuid() &&
	       !(file.st_mode & (S_IWGRP | S_IWOTH));
}
