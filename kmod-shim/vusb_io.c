// SPDX-License-Identifier: GPL-2.0-only
/*
 * Opens, reads, writes and closes a file as the file system behind it wants that.
 */
#include <linux/completion.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/ktime.h>
#include <linux/log2.h>
#include <linux/magic.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/string.h>
#include <linux/uio.h>

#include "vusb_compat.h"
#include "vusb_io.h"

/* What a read asks for at least. */
#define VUSB_READ_MIN		(16 * 1024)
/*
 * And at most where it's answered by a call: FUSE sends a longer one in parts, all at once, which
 * may be answered in any order. A server that doesn't say otherwise takes 32 pages.
 */
#define VUSB_READ_ASYNC_MAX	(128 * 1024)
/* Reads after which the longest of them is forgotten. */
#define VUSB_READ_MEMORY	64

int vusb_io_init(struct vusb_io *io)
{
	init_completion(&io->read_ended);
	if (vusb_buffer_alloc(&io->in))
		return -ENOMEM;
	if (vusb_buffer_alloc(&io->out)) {
		vusb_buffer_free(&io->in);
		return -ENOMEM;
	}
	return 0;
}

void vusb_io_free(struct vusb_io *io)
{
	vusb_buffer_free(&io->out);
	vusb_buffer_free(&io->in);
}

struct vusb_reclaim {
	unsigned int noio;
	unsigned int noreclaim;
};

/*
 * What the file system allocates must not wait for memory to be written out, perhaps to a disk
 * behind this very file.
 */
static void vusb_reclaim_save(struct vusb_reclaim *reclaim)
{
	reclaim->noio = memalloc_noio_save();
	reclaim->noreclaim = memalloc_noreclaim_save();
}

static void vusb_reclaim_restore(struct vusb_reclaim *reclaim)
{
	memalloc_noreclaim_restore(reclaim->noreclaim);
	memalloc_noio_restore(reclaim->noio);
}

struct file *vusb_io_open(struct vusb_io *io, const char *path)
{
	struct vusb_reclaim reclaim;
	struct file *file;
	bool p9;

	vusb_reclaim_save(&reclaim);
	file = filp_open(path, O_RDWR | O_LARGEFILE | O_CLOEXEC, 0);
	vusb_reclaim_restore(&reclaim);
	if (IS_ERR(file))
		return file;
	if (!(file->f_mode & FMODE_CAN_READ) || !(file->f_mode & FMODE_CAN_WRITE)) {
		__fput_sync(file);
		return ERR_PTR(-EINVAL);
	}

	/*
	 * 9p goes on reading until its buffer is full or there is nothing more, unless it's told
	 * not to wait. Its server doesn't hear of that.
	 */
	p9 = file_inode(file)->i_sb->s_magic == V9FS_MAGIC;
	io->is_async = file_inode(file)->i_sb->s_magic == FUSE_SUPER_MAGIC;
	io->read_size = VUSB_READ_MIN;
	io->reads_all = p9 && VUSB_9P_READS_ALL;
	if (p9) {
		spin_lock(&file->f_lock);
		file->f_flags |= O_NONBLOCK;
		spin_unlock(&file->f_lock);
	}
	return file;
}

/*
 * Closed here and now: filp_close() would ask the file system to flush, and a delayed fput() would
 * have someone else wait for the file's server.
 */
void vusb_io_close(struct file *file)
{
	struct vusb_reclaim reclaim;

	vusb_reclaim_save(&reclaim);
	__fput_sync(file);
	vusb_reclaim_restore(&reclaim);
}

/*
 * File systems take hold of every page that a read asks for, used or not. So it asks for twice of
 * what came lately.
 */
static void vusb_read_adapt(struct vusb_io *io, size_t count)
{
	size_t most = io->is_async ? VUSB_READ_ASYNC_MAX : VUSB_BUFFER_SIZE;

	io->read_longest = max(io->read_longest, count);
	if (2 * count > io->read_size || ++io->read_count == VUSB_READ_MEMORY) {
		io->read_size = clamp_t(size_t, roundup_pow_of_two(2 * io->read_longest + 1),
					VUSB_READ_MIN, most);
		io->read_longest = count;
		io->read_count = 0;
	}
}

/*
 * Takes what a read brought. FUSE and virtio-fs call it in whatever task answers, so that nobody has
 * to be woken for it. That task may be the host's: it waits for no memory, and no longer than for a
 * callback of the other thread.
 */
static void vusb_read_done(struct kiocb *read, long ret)
{
	struct vusb_io *io = container_of(read, struct vusb_io, read);

	WRITE_ONCE(io->reads, io->reads + 1);
	WRITE_ONCE(io->reading, 0);
	if (ret == -EINTR || ret == -EAGAIN)
		ret = 0;
	if (ret >= 0) {
		io->bytes_read += ret;
		if (!ret)
			io->empty_reads++;
		vusb_read_adapt(io, ret);
		ret = io->received(io, ret) ?: ret;
	}
	io->read_result = ret;
	/* It may be freed from here on. */
	complete(&io->read_ended);
}

/* One read, and what came of it: its bytes, which were taken already, or a negative errno. */
int vusb_io_read(struct vusb_io *io, struct file *file)
{
	struct vusb_reclaim reclaim;
	struct iov_iter iter;
	ssize_t ret;

	vusb_buffer_iter(&io->in, &iter, ITER_DEST, io->read_size);
	io->read = (struct kiocb){
		.ki_filp = file,
		.ki_flags = io->is_async ? IOCB_DIRECT : 0,
		.ki_complete = io->is_async ? vusb_read_done : NULL,
	};
	reinit_completion(&io->read_ended);
	/*
	 * The file ends where it begins: no reading on, then. A write would move the end, but where
	 * that matters reads and writes take turns.
	 */
	if (io->reads_all)
		i_size_write(file_inode(file), 0);
	WRITE_ONCE(io->reading, ktime_get_ns());
	vusb_reclaim_save(&reclaim);
	ret = vfs_iocb_iter_read(file, &io->read, &iter);
	vusb_reclaim_restore(&reclaim);
	if (ret != -EIOCBQUEUED)
		vusb_read_done(&io->read, ret);
	wait_for_completion_state(&io->read_ended, TASK_IDLE);
	return io->read_result;
}

int vusb_io_write(struct vusb_io *io, struct file *file, size_t count)
{
	struct vusb_reclaim reclaim;
	struct iov_iter iter;
	ssize_t ret = 0;

	vusb_buffer_iter(&io->out, &iter, ITER_SOURCE, count);
	WRITE_ONCE(io->writing, ktime_get_ns());
	vusb_reclaim_save(&reclaim);
	while (ret >= 0 && iov_iter_count(&iter)) {
		size_t left = iov_iter_count(&iter);
		loff_t position = 0;

		ret = vfs_iter_write(file, &iter, &position, 0);
		if (!ret)
			ret = -EIO;
		/* netfs, on which 9p is, writes from a copy of the iterator and leaves this one where it was. */
		if (ret > 0 && iov_iter_count(&iter) == left)
			iov_iter_advance(&iter, min_t(size_t, ret, left));
	}
	vusb_reclaim_restore(&reclaim);
	WRITE_ONCE(io->writing, 0);
	if (ret < 0)
		return ret;

	WRITE_ONCE(io->writes, io->writes + 1);
	io->bytes_written += count;
	return 0;
}
