/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * vusb_channel's way to use a file: one read and one write at a time, each by a thread of its own.
 */
#ifndef VUSB_IO_H
#define VUSB_IO_H

#include <linux/bvec.h>
#include <linux/completion.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/types.h>

/* What fits in one request of FUSE, virtio-fs and, by its greatest msize, 9p. */
#define VUSB_BUFFER_SIZE	(256 * 1024)
#define VUSB_BUFFER_PAGES	(VUSB_BUFFER_SIZE / PAGE_SIZE)
struct vusb_buffer {
	u8 *bytes;			/* all pages, mapped in a row */
	struct bio_vec segments[VUSB_BUFFER_PAGES];
	unsigned int count;
	struct page *pages[VUSB_BUFFER_PAGES];
};

/* What belongs to reads is the read thread's and, while one is under way, whoever's that answers it. */
struct vusb_io {
	/* Takes what a read brought, io->in.bytes; an error is the read's. Set by the user. */
	int (*received)(struct vusb_io *io, size_t count);

	bool reads_all;			/* a read goes on until there is nothing more */
	bool is_async;			/* the file system answers a read by a call */
	struct kiocb read;		/* the one under way */
	struct completion read_ended;	/* no flag: who waits may free this */
	int read_result;		/* bytes, or a negative errno */
	size_t read_size;		/* that the next read asks for */
	size_t read_longest;		/* of the last ones, so many */
	unsigned int read_count;
	/* Begin of what a thread does now, 0: nothing. Each written by its thread only. */
	u64 reading;
	u64 writing;
	u64 reads;
	u64 empty_reads;
	u64 writes;
	u64 bytes_read;
	u64 bytes_written;

	struct vusb_buffer in;		/* the read thread's */
	struct vusb_buffer out;		/* the write thread's */
};

/* vusb_buffer.c */
int vusb_buffer_alloc(struct vusb_buffer *buffer);
void vusb_buffer_free(struct vusb_buffer *buffer);
void vusb_buffer_iter(struct vusb_buffer *buffer, struct iov_iter *iter, unsigned int direction,
		      size_t count);

/* vusb_io.c */
int vusb_io_init(struct vusb_io *io);
void vusb_io_free(struct vusb_io *io);
struct file *vusb_io_open(struct vusb_io *io, const char *path);
int vusb_io_read(struct vusb_io *io, struct file *file);
int vusb_io_write(struct vusb_io *io, struct file *file, size_t count);
void vusb_io_close(struct file *file);

#endif
