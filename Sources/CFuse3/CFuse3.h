/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>
#include <cuse_lowlevel.h>
#include <linux/fuse.h>

/*
 * Answers an open with flags that libfuse 3.14 has no field for: FOPEN_STREAM (no file position, so that a blocked
 * read doesn't hold up a write on the same descriptor) and FOPEN_PARALLEL_DIRECT_WRITES (no inode lock around a
 * blocked write). The reply's layout is the kernel's, include/uapi/linux/fuse.h.
 */
static inline int CFuse3_reply_open(fuse_req_t req, uint64_t handle, uint32_t flags)
{
	struct fuse_open_out out = { .fh = handle, .open_flags = flags };

	return fuse_reply_buf(req, (const char *)&out, sizeof(out));
}

static const uint32_t CFuse3_FOPEN_DIRECT_IO = FOPEN_DIRECT_IO;
static const uint32_t CFuse3_FOPEN_NONSEEKABLE = FOPEN_NONSEEKABLE;
static const uint32_t CFuse3_FOPEN_STREAM = FOPEN_STREAM;
static const uint32_t CFuse3_FOPEN_PARALLEL_DIRECT_WRITES = FOPEN_PARALLEL_DIRECT_WRITES;
