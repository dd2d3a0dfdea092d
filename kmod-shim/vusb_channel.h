/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * vusb_channel: a file as a pair of byte streams, read and written by two threads.
 *
 * It knows nothing of what is in the streams. It exists so that its user can always go: a thread
 * that waits in somebody else's file system can't be made to return, and its code can't be freed
 * under it. This module stays until the threads have returned, its user doesn't have to.
 */
#ifndef VUSB_CHANNEL_H
#define VUSB_CHANNEL_H

#include <linux/types.h>

struct vusb_channel;

/*
 * All are called from threads of the channel, or from vusb_channel_fail(), received also from the
 * task that answers a read, and may not block for long. received and fill may run at the same time;
 * opened and closed run alone.
 */
struct vusb_channel_ops {
	/* The file is open anew; nothing was read or written. */
	void (*opened)(void *context);
	/* It is of no use any more. Balances opened; the file itself is closed some time later. */
	void (*closed)(void *context, int error);
	/* Bytes have come; none: a read had nothing to say. An error ends the channel's file. */
	int (*received)(void *context, const void *bytes, size_t count);
	/* Return how many bytes to write, 0 for none until vusb_channel_kick(). */
	size_t (*fill)(void *context, void *buffer, size_t size);
};

/* For debugfs: a snapshot. */
struct vusb_channel_state {
	const char *path;
	bool open;
	bool turns;
	int error;		/* of the last attempt to open, or what ended it */
	u64 opens;
	u64 reads;
	u64 empty_reads;
	u64 writes;
	u64 bytes_read;
	u64 bytes_written;
	unsigned int reading;	/* milliseconds that the read has taken so far */
	unsigned int writing;
};

struct vusb_channel *vusb_channel_create(const char *path, const struct vusb_channel_ops *ops,
					 void *context);
int vusb_channel_start(struct vusb_channel *channel);
void vusb_channel_detach(struct vusb_channel *channel);

/* There is something to fill a buffer with. From any context. */
void vusb_channel_kick(struct vusb_channel *channel);
/* What came was good: after the next failure the file is opened again at once. */
void vusb_channel_settle(struct vusb_channel *channel);
/* Ends the use of the file, from process context, not from a callback. */
void vusb_channel_fail(struct vusb_channel *channel, int error);
/* Whether a read and a write are to take turns, for file systems that do one at a time. */
void vusb_channel_take_turns(struct vusb_channel *channel, bool turns);
/* Whether a read goes on until the file has nothing more to say, as some file systems have it. */
bool vusb_channel_reads_all(struct vusb_channel *channel);
void vusb_channel_get_state(struct vusb_channel *channel, struct vusb_channel_state *state);

#endif
