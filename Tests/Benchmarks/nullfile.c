/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The yardstick of `make bench`: a FUSE file that does nothing, on libfuse's low-level interface in its fastest form:
 * one reader thread, no pipes, answers from one page-aligned buffer, files opened with the same flags as vusb's.
 * Usage: nullfile MOUNTPOINT; serves MOUNTPOINT/null until it is unmounted.
 */
#define FUSE_USE_VERSION 314
#include <errno.h>
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { NULL_INODE = 2, LARGEST = 1 << 20 };

static char *zeros;

static struct stat attributes(fuse_ino_t ino)
{
	struct stat st = { .st_ino = ino, .st_nlink = 1, .st_blksize = 4096 };

	st.st_mode = ino == FUSE_ROOT_ID ? S_IFDIR | 0755 : S_IFREG | 0666;
	st.st_size = ino == FUSE_ROOT_ID ? 0 : LARGEST;
	return st;
}

static void on_init(void *data, struct fuse_conn_info *connection)
{
	connection->max_write = LARGEST;
	connection->want &= ~(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
}

static void on_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param entry = { .ino = NULL_INODE, .attr = attributes(NULL_INODE) };

	if (parent != FUSE_ROOT_ID || strcmp(name, "null") != 0)
		fuse_reply_err(req, ENOENT);
	else
		fuse_reply_entry(req, &entry);
}

static void on_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *info)
{
	struct stat st = attributes(ino);

	fuse_reply_attr(req, &st, 0);
}

static void on_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *info)
{
	/* As vusb's endpoint files: no position, no lock around writes; libfuse 3.14 has no fields for these flags. */
	struct fuse_open_out out = { .open_flags = FOPEN_DIRECT_IO | FOPEN_NONSEEKABLE | FOPEN_STREAM |
						   FOPEN_PARALLEL_DIRECT_WRITES };

	fuse_reply_buf(req, (const char *)&out, sizeof(out));
}

static void on_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *info)
{
	fuse_reply_buf(req, zeros, size);
}

static void on_write(fuse_req_t req, fuse_ino_t ino, const char *bytes, size_t size, off_t offset,
		     struct fuse_file_info *info)
{
	fuse_reply_write(req, size);
}

int main(int argc, char **argv)
{
	static const struct fuse_lowlevel_ops operations = {
		.init = on_init, .lookup = on_lookup, .getattr = on_getattr,
		.open = on_open, .read = on_read, .write = on_write,
	};
	char *options[] = { argv[0], "-o", "allow_other,default_permissions,fsname=vusb-null" };
	struct fuse_args args = FUSE_ARGS_INIT(3, options);
	struct fuse_session *session;

	if (argc != 2 || posix_memalign((void **)&zeros, 4096, LARGEST) != 0)
		return 2;
	memset(zeros, 0, LARGEST);
	session = fuse_session_new(&args, &operations, sizeof(operations), NULL);
	if (!session || fuse_session_mount(session, argv[1]) != 0)
		return 1;
	fuse_session_loop(session);
	fuse_session_unmount(session);
	fuse_session_destroy(session);
	return 0;
}
