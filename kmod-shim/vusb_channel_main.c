// SPDX-License-Identifier: GPL-2.0-only
/*
 * vusb_channel: a file as a pair of byte streams, see vusb_channel.h.
 *
 * Concurrency: the read thread opens the file, both threads use it, each with a reference of its
 * own; the last one closes it. A failure, whoever sees it, ends the use of the file at once
 * (vusb_channel_fail()), though a thread may wait in it for a while yet. The read thread always
 * waits for its read; what that brought is taken by itself or by whoever answers it
 * (vusb_read_done()), never by two at a time.
 *
 * References to struct vusb_channel: its user's, from vusb_channel_create() to
 * vusb_channel_detach(), and one of each thread, dropped as the last thing it does. Each thread
 * also has a reference to this module.
 *
 * No lock is held while the file is used. Lock order: user, then lock.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/completion.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/kref.h>
#include <linux/kthread.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/rwsem.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/wait.h>

#include "vusb_channel.h"
#include "vusb_io.h"

/* Milliseconds until the next attempt to open: from, to. */
#define VUSB_BACKOFF_MIN	50
#define VUSB_BACKOFF_MAX	1000
/* A read that had nothing to say sooner than that, in nanoseconds, is followed by a pause. */
#define VUSB_QUICK		(NSEC_PER_MSEC)
/* Reads without an answer that are followed by the next at once; then pauses, doubling. */
#define VUSB_PATIENCE		16
/* Milliseconds of a pause at most. */
#define VUSB_PAUSE_MAX		32
/* Milliseconds that a detach waits for the threads: one may just have begun to read. */
#define VUSB_DETACH_WAIT	1200

enum vusb_who {
	VUSB_NOBODY,
	VUSB_READER,
	VUSB_WRITER,
};

struct vusb_channel {
	struct kref ref;
	char *path;
	struct completion done;		/* both threads have let go of the file */
	atomic_t threads;

	/* For reading while a callback runs, for writing for those that run alone. */
	struct rw_semaphore user;
	const struct vusb_channel_ops *ops;	/* Protected by user; NULL: detached */
	void *context;
	bool open;			/* between opened and closed. Written with user */
	unsigned int generation;	/* of the file. Written with user */
	int error;			/* Written with user */

	wait_queue_head_t read_wait;
	wait_queue_head_t write_wait;
	bool detached;			/* Set once */
	unsigned long kicked;		/* bit 0 */
	bool settled;

	spinlock_t lock;		/* of the file and of whose turn it is */
	struct file *file;		/* Protected by lock */
	bool turns;			/* This and what follows protected by lock */
	enum vusb_who turn;
	enum vusb_who last_turn;
	bool wanted[VUSB_WRITER + 1];

	u64 opens;
	struct vusb_io io;
};

/* Turns */

static bool vusb_turn_try(struct vusb_channel *channel, enum vusb_who who, enum vusb_who other)
{
	bool mine = true;

	spin_lock(&channel->lock);
	if (channel->turns) {
		mine = channel->turn == VUSB_NOBODY &&
		       (channel->last_turn != who || !channel->wanted[other]);
		if (mine)
			channel->turn = who;
		channel->wanted[who] = !mine;
	}
	spin_unlock(&channel->lock);
	return mine;
}

static void vusb_turn_give(struct vusb_channel *channel, enum vusb_who who)
{
	bool given;

	spin_lock(&channel->lock);
	given = channel->turn == who;
	if (given) {
		channel->turn = VUSB_NOBODY;
		channel->last_turn = who;
	}
	channel->wanted[who] = false;
	spin_unlock(&channel->lock);
	if (given)
		wake_up(who == VUSB_READER ? &channel->write_wait : &channel->read_wait);
}

/* What both threads share */

static void vusb_channel_release(struct kref *ref)
{
	struct vusb_channel *channel = container_of(ref, struct vusb_channel, ref);

	vusb_io_free(&channel->io);
	kfree(channel->path);
	kvfree(channel);
}

static bool vusb_channel_is(struct vusb_channel *channel, unsigned int generation)
{
	return READ_ONCE(channel->open) && READ_ONCE(channel->generation) == generation;
}

static bool vusb_channel_detached(struct vusb_channel *channel)
{
	return READ_ONCE(channel->detached);
}

static void vusb_channel_end(struct vusb_channel *channel, unsigned int generation, int error)
{
	down_write(&channel->user);
	if (vusb_channel_is(channel, generation)) {
		WRITE_ONCE(channel->open, false);
		channel->error = error;
		if (channel->ops)
			channel->ops->closed(channel->context, error);
	}
	up_write(&channel->user);
	wake_up(&channel->read_wait);
	wake_up(&channel->write_wait);
}

/* The read thread */

/* No other file can be open: it's the read thread that opens the next, once this read has ended. */
static int vusb_received(struct vusb_io *io, size_t count)
{
	struct vusb_channel *channel = container_of(io, struct vusb_channel, io);
	int ret = -ECANCELED;

	down_read(&channel->user);
	if (channel->ops && READ_ONCE(channel->open))
		ret = channel->ops->received(channel->context, io->in.bytes, count);
	up_read(&channel->user);
	return ret;
}

/* The pause before the next read, in milliseconds, after so many that had nothing to say. */
static unsigned int vusb_pause(unsigned int empty)
{
	if (empty < VUSB_PATIENCE)
		return 0;
	return min_t(unsigned int, 1U << min(empty - VUSB_PATIENCE, 16U), VUSB_PAUSE_MAX);
}

static void vusb_read_pause(struct vusb_channel *channel, unsigned int generation,
			    unsigned int empty)
{
	u64 writes = READ_ONCE(channel->io.writes);
	unsigned int pause = vusb_pause(empty);

	if (pause)
		wait_event_idle_timeout(channel->read_wait,
					READ_ONCE(channel->io.writes) != writes ||
					!vusb_channel_is(channel, generation),
					msecs_to_jiffies(pause));
}

/* Reads until there is an error. */
static int vusb_read_all(struct vusb_channel *channel, struct file *file, unsigned int generation)
{
	unsigned int empty = 0;
	u64 begin, writes;
	int ret;

	for (;;) {
		wait_event_idle(channel->read_wait,
				!vusb_channel_is(channel, generation) ||
				vusb_turn_try(channel, VUSB_READER, VUSB_WRITER));
		if (!vusb_channel_is(channel, generation)) {
			vusb_turn_give(channel, VUSB_READER);
			return -ECANCELED;
		}
		begin = ktime_get_ns();
		writes = READ_ONCE(channel->io.writes);
		ret = vusb_io_read(&channel->io, file);
		vusb_turn_give(channel, VUSB_READER);
		if (ret < 0)
			return ret;
		/* What waited in the file system saw something else happen, or took its time. */
		if (ret || READ_ONCE(channel->io.writes) != writes ||
		    (!READ_ONCE(channel->turns) && ktime_get_ns() - begin > VUSB_QUICK))
			empty = 0;
		else
			empty++;
		vusb_read_pause(channel, generation, empty);
	}
}

/* Makes a file the channel's; says whether its user still wants it. */
static bool vusb_opened(struct vusb_channel *channel, struct file *file)
{
	bool wanted;

	down_write(&channel->user);
	wanted = channel->ops;
	if (wanted) {
		spin_lock(&channel->lock);
		channel->file = file;
		channel->turns = channel->io.reads_all;
		channel->turn = VUSB_NOBODY;
		spin_unlock(&channel->lock);
		channel->settled = false;
		channel->opens++;
		channel->error = 0;
		WRITE_ONCE(channel->generation, channel->generation + 1);
		WRITE_ONCE(channel->open, true);
		channel->ops->opened(channel->context);
	}
	up_write(&channel->user);
	return wanted;
}

/* From open to close. Returns whether it was of use to anybody. */
static bool vusb_use_file(struct vusb_channel *channel)
{
	struct file *file = vusb_io_open(&channel->io, channel->path);
	int error;

	if (IS_ERR(file)) {
		channel->error = PTR_ERR(file);
		return false;
	}
	if (vusb_opened(channel, file)) {
		error = vusb_read_all(channel, file, channel->generation);
		vusb_channel_end(channel, channel->generation, error);
		spin_lock(&channel->lock);
		channel->file = NULL;
		spin_unlock(&channel->lock);
	}
	vusb_io_close(file);
	return READ_ONCE(channel->settled);
}

static void vusb_thread_done(struct vusb_channel *channel)
{
	if (atomic_dec_and_test(&channel->threads))
		complete_all(&channel->done);
	kref_put(&channel->ref, vusb_channel_release);
	module_put_and_kthread_exit(0);
}

static int vusb_read_thread(void *data)
{
	unsigned int backoff = VUSB_BACKOFF_MIN;
	struct vusb_channel *channel = data;

	set_user_nice(current, MIN_NICE);
	while (!vusb_channel_detached(channel)) {
		if (vusb_use_file(channel))
			backoff = VUSB_BACKOFF_MIN;
		wait_event_idle_timeout(channel->read_wait, vusb_channel_detached(channel),
					msecs_to_jiffies(backoff));
		backoff = min(2 * backoff, (unsigned int)VUSB_BACKOFF_MAX);
	}
	vusb_thread_done(channel);
	return 0;
}

/* The write thread */

static size_t vusb_fill(struct vusb_channel *channel, unsigned int generation)
{
	size_t count = 0;

	down_read(&channel->user);
	if (channel->ops && vusb_channel_is(channel, generation))
		count = channel->ops->fill(channel->context, channel->io.out.bytes, VUSB_BUFFER_SIZE);
	up_read(&channel->user);
	return count;
}

static int vusb_write_all(struct vusb_channel *channel, struct file *file, unsigned int generation)
{
	size_t count;
	int ret;

	for (;;) {
		wait_event_idle(channel->write_wait,
				!vusb_channel_is(channel, generation) ||
				vusb_turn_try(channel, VUSB_WRITER, VUSB_READER));
		count = vusb_fill(channel, generation);
		ret = count ? vusb_io_write(&channel->io, file, count) : 0;
		vusb_turn_give(channel, VUSB_WRITER);
		if (ret || !count)
			return ret;
		/* The other thread may be in a pause. */
		if (READ_ONCE(channel->turns))
			wake_up(&channel->read_wait);
	}
}

static int vusb_write_thread(void *data)
{
	struct vusb_channel *channel = data;
	unsigned int generation;
	struct file *file;
	int error;

	set_user_nice(current, MIN_NICE);
	for (;;) {
		wait_event_idle(channel->write_wait, test_and_clear_bit(0, &channel->kicked) ||
				vusb_channel_detached(channel));
		if (vusb_channel_detached(channel))
			break;
		/* One that belongs to the next file does no harm: there is another kick then. */
		generation = READ_ONCE(channel->generation);
		spin_lock(&channel->lock);
		file = channel->file ? get_file(channel->file) : NULL;
		spin_unlock(&channel->lock);
		if (!file)
			continue;
		error = vusb_write_all(channel, file, generation);
		if (error)
			vusb_channel_end(channel, generation, error);
		vusb_io_close(file);
	}
	vusb_thread_done(channel);
	return 0;
}

/* For its user */

static struct vusb_channel *vusb_channel_alloc(const char *path)
{
	struct vusb_channel *channel = kvzalloc(sizeof(*channel), GFP_KERNEL);

	if (!channel)
		return NULL;
	kref_init(&channel->ref);
	init_completion(&channel->done);
	channel->io.received = vusb_received;
	init_rwsem(&channel->user);
	init_waitqueue_head(&channel->read_wait);
	init_waitqueue_head(&channel->write_wait);
	spin_lock_init(&channel->lock);
	channel->path = kstrdup(path, GFP_KERNEL);
	if (!channel->path)
		goto free;
	if (vusb_io_init(&channel->io))
		goto free_path;
	return channel;
free_path:
	kfree(channel->path);
free:
	kvfree(channel);
	return NULL;
}

/* The references are dropped in vusb_thread_done(). */
static void vusb_thread_start(struct vusb_channel *channel, struct task_struct *thread)
{
	kref_get(&channel->ref);
	__module_get(THIS_MODULE);
	wake_up_process(thread);
}

/**
 * vusb_channel_create() - all that a channel needs
 * @path: of its file
 * @ops: what to call
 * @context: for @ops
 *
 * Return: the channel, to be ended with vusb_channel_detach(), or NULL when there is no memory
 */
struct vusb_channel *vusb_channel_create(const char *path, const struct vusb_channel_ops *ops,
					 void *context)
{
	struct vusb_channel *channel = vusb_channel_alloc(path);

	if (!channel)
		return NULL;
	channel->ops = ops;
	channel->context = context;
	complete_all(&channel->done);
	return channel;
}
EXPORT_SYMBOL_GPL(vusb_channel_create);

/**
 * vusb_channel_start() - begin to use the file
 * @channel: from vusb_channel_create(), once
 *
 * It is opened now, and again whenever it failed, until vusb_channel_detach().
 *
 * Return: 0 or a negative errno
 */
int vusb_channel_start(struct vusb_channel *channel)
{
	struct task_struct *reader, *writer;

	reader = kthread_create(vusb_read_thread, channel, "vusb-read");
	if (IS_ERR(reader))
		return PTR_ERR(reader);
	writer = kthread_create(vusb_write_thread, channel, "vusb-write");
	if (IS_ERR(writer)) {
		/* It never ran. */
		kthread_stop(reader);
		return PTR_ERR(writer);
	}
	reinit_completion(&channel->done);
	atomic_set(&channel->threads, 2);
	vusb_thread_start(channel, reader);
	vusb_thread_start(channel, writer);
	return 0;
}
EXPORT_SYMBOL_GPL(vusb_channel_start);

/**
 * vusb_channel_detach() - end it
 * @channel: from vusb_channel_create(), not to be used again
 *
 * No callback runs once this returns. Waits for those that do, and for a moment for the file to be
 * closed. Where it can't be, because its server is silent, the threads end when it isn't any more.
 */
void vusb_channel_detach(struct vusb_channel *channel)
{
	down_write(&channel->user);
	channel->ops = NULL;
	WRITE_ONCE(channel->open, false);
	WRITE_ONCE(channel->detached, true);
	up_write(&channel->user);
	wake_up(&channel->read_wait);
	wake_up(&channel->write_wait);
	wait_for_completion_timeout(&channel->done, msecs_to_jiffies(VUSB_DETACH_WAIT));
	kref_put(&channel->ref, vusb_channel_release);
}
EXPORT_SYMBOL_GPL(vusb_channel_detach);

/**
 * vusb_channel_kick() - have the write thread ask for bytes
 * @channel: the channel
 */
void vusb_channel_kick(struct vusb_channel *channel)
{
	if (!test_and_set_bit(0, &channel->kicked))
		wake_up(&channel->write_wait);
}
EXPORT_SYMBOL_GPL(vusb_channel_kick);

/**
 * vusb_channel_settle() - say that the other side is a good one
 * @channel: the channel
 */
void vusb_channel_settle(struct vusb_channel *channel)
{
	WRITE_ONCE(channel->settled, true);
}
EXPORT_SYMBOL_GPL(vusb_channel_settle);

/**
 * vusb_channel_fail() - end the use of the file that is open now
 * @channel: the channel
 * @error: for the closed callback
 */
void vusb_channel_fail(struct vusb_channel *channel, int error)
{
	vusb_channel_end(channel, READ_ONCE(channel->generation), error);
}
EXPORT_SYMBOL_GPL(vusb_channel_fail);

/**
 * vusb_channel_take_turns() - have one thread at a time use the file
 * @channel: the channel
 * @turns: whether to; whenever the file is opened it's as vusb_channel_reads_all()
 */
void vusb_channel_take_turns(struct vusb_channel *channel, bool turns)
{
	spin_lock(&channel->lock);
	channel->turns = turns;
	channel->turn = VUSB_NOBODY;
	spin_unlock(&channel->lock);
	wake_up(&channel->read_wait);
	wake_up(&channel->write_wait);
}
EXPORT_SYMBOL_GPL(vusb_channel_take_turns);

/**
 * vusb_channel_reads_all() - whether reads must not wait
 * @channel: the channel
 *
 * Return: true where a read goes on until there is nothing more
 */
bool vusb_channel_reads_all(struct vusb_channel *channel)
{
	return READ_ONCE(channel->io.reads_all);
}
EXPORT_SYMBOL_GPL(vusb_channel_reads_all);

static unsigned int vusb_since(u64 begin)
{
	return begin ? div_u64(ktime_get_ns() - begin, NSEC_PER_MSEC) : 0;
}

/**
 * vusb_channel_get_state() - what it is doing
 * @channel: the channel
 * @state: filled in
 */
void vusb_channel_get_state(struct vusb_channel *channel, struct vusb_channel_state *state)
{
	state->path = channel->path;
	state->open = READ_ONCE(channel->open);
	state->turns = READ_ONCE(channel->turns);
	state->error = READ_ONCE(channel->error);
	state->opens = READ_ONCE(channel->opens);
	state->reads = READ_ONCE(channel->io.reads);
	state->empty_reads = READ_ONCE(channel->io.empty_reads);
	state->writes = READ_ONCE(channel->io.writes);
	state->bytes_read = READ_ONCE(channel->io.bytes_read);
	state->bytes_written = READ_ONCE(channel->io.bytes_written);
	state->reading = vusb_since(READ_ONCE(channel->io.reading));
	state->writing = vusb_since(READ_ONCE(channel->io.writing));
}
EXPORT_SYMBOL_GPL(vusb_channel_get_state);

/*
 * The read thread was the last to hold the module, but who called vusb_read_done() may not have
 * returned from it: that's over when every task has once given up its processor by itself. (Without
 * CONFIG_TASKS_RCU, which tracing brings, this waits only for those that weren't preempted in it.)
 */
static void __exit vusb_channel_exit(void)
{
	synchronize_rcu_tasks();
}
module_exit(vusb_channel_exit);

MODULE_DESCRIPTION("A file as a pair of byte streams, for vusb_hcd");
MODULE_LICENSE("GPL");
MODULE_VERSION("0.1.0");
