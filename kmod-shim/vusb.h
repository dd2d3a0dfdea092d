/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * vusb_hcd: what its files share.
 *
 * Concurrency: everything in struct vusb_host is protected by its lock, a leaf taken with
 * interrupts off, if it doesn't say otherwise. No lock is held while a URB is given back, and none
 * while the file is used: that's vusb_channel's threads, whose callbacks are in vusb_rx.c (what a
 * read brought, one at a time), vusb_tx.c (the write thread) and vusb_device.c (opened, closed).
 *
 * Life of a URB: queued at its device -> its record is being filled in, it has a slot -> sent ->
 * its completion is being read -> given back. The cases of unlink, removal and loss are those of
 * Channel.md, G1 to G11, and are named where they are handled:
 *
 *  G1  unlinked while queued: vusb_urb_dequeue()
 *  G2  unlinked while sent: vusb_urb_dequeue(), vusb_tx_cancel()
 *  G3  unlinked while its completion is read: vusb_urb_dequeue(); before the cancel is sent:
 *      vusb_urb_finish()
 *  G4  unlinked, and the host is silent: vusb_late_work()
 *  G5  a completion that isn't one: vusb_rx_complete()
 *  G6  loss of the channel: vusb_closed(); silence: vusb_watch_work()
 *  G7  removed: vusb_device_unplug(), vusb_device_settle()
 *  G8  removed in an orderly way: vusb_orderly_work()
 *  G9  rmmod: vusb_remove(), and G10 vusb_channel_detach()
 *  G11 no memory: vusb_urb_alloc()
 *
 * A URB whose memory a thread copies from or to is busy; who wants to give it back then leaves that
 * to the thread, see vusb_urb_abandon() and vusb_urb_unpin().
 */
#ifndef VUSB_H
#define VUSB_H

#include <linux/completion.h>
#include <linux/list.h>
#include <linux/mempool.h>
#include <linux/platform_device.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/usb.h>
#include <linux/usb/hcd.h>
#include <linux/workqueue.h>

#include "vusb_channel.h"
#include "vusb_codec.h"

#define VUSB_VERSION		"0.1.0"
#define VUSB_NAME		"vusb_hcd"

#define VUSB_MAX_PORTS		15
#define VUSB_MAX_DEVICES	64
#define VUSB_ANSWERS		256

/* Seconds after which an unlinked URB is given back, whatever the host says (G4). */
#define VUSB_UNLINK_BOUND	2
/* Seconds beyond its longest wait after which a host is silent (G6). */
#define VUSB_SILENCE_BOUND	10
/* Seconds that a channel lasts if it's a good one. */
#define VUSB_SETTLE_BOUND	2
/* Seconds for the first hello. */
#define VUSB_HELLO_BOUND	5

/* Microseconds that a read may wait: while it isn't known whether the file does two things at a */
/* time, when it does, and when it doesn't. */
#define VUSB_WAIT_PROBE		250000
#define VUSB_WAIT_LONG		5000000
#define VUSB_WAIT_SHORT		500
/* Milliseconds between looks at a probe, and that a read has to be waiting for one. */
#define VUSB_PROBE_STEP		20
/* Reads that returned before the pong until that is no accident. */
#define VUSB_PROBE_STRIKES	3

struct vusb_host;
struct vusb_device;

enum vusb_urb_state {
	VUSB_URB_QUEUED,	/* in its device's queue */
	VUSB_URB_SENDING,	/* has a slot, its record isn't whole yet: host->tx.urb */
	VUSB_URB_SENT,
	VUSB_URB_ENDING,	/* its completion is being read: host->rx.urb */
};

/* A URB on its way. The slot may outlive the URB (G4, G7). */
struct vusb_urb {
	struct urb *urb;		/* NULL: given back */
	struct vusb_device *device;
	struct list_head queue;		/* device->queue */
	struct list_head cancel;	/* host->cancels */
	struct list_head late;		/* host->late */
	u64 id;				/* from VUSB_URB_SENDING on */
	enum vusb_urb_state state;
	struct vusb_asked asked;
	bool busy;			/* its memory is in use by a thread without the lock */
	int abandoned;			/* the status to end with as soon as it isn't */
	unsigned long unlinked;		/* when, jiffies */
};

enum vusb_device_state {
	VUSB_DEVICE_FREE,
	VUSB_DEVICE_ADDED,
	VUSB_DEVICE_LEAVING,		/* orderly: drivers are let go */
	VUSB_DEVICE_GONE,		/* waits for completions before VUSB_REMOVED */
};

struct vusb_port {
	struct vusb_device *device;
	u16 status;			/* wPortStatus */
	u16 change;			/* wPortChange */
};

struct vusb_root {
	struct vusb_host *host;
	struct usb_hcd *hcd;
	bool super;
	struct vusb_port ports[VUSB_MAX_PORTS];
};

struct vusb_device {
	struct vusb_host *host;
	enum vusb_device_state state;
	u16 handle;
	u8 speed;			/* enum vusb_speed */
	u8 address;			/* as SET_ADDRESS had it */
	bool quiet;			/* the host wants no submits */
	bool used;			/* since it was added or reset, beyond being looked at */
	bool wakes;			/* the guest would be woken by it */
	bool resetting;
	u64 reset_id;
	u32 wanted_port;		/* 0: any */
	struct vusb_root *root;
	struct vusb_port *port;		/* NULL: none was free, or it's gone */
	struct list_head queue;		/* struct vusb_urb */
	struct list_head ready;		/* in host->ready while the queue isn't empty */
	unsigned int queued;
	unsigned int sent;		/* slots taken */
	u32 bytes_sent;			/* of the credits in use */
	u64 urbs;
	u64 errors;
	u64 unlinks;
	u64 bytes_in;
	u64 bytes_out;
	struct work_struct orderly;
};

enum vusb_host_state {
	VUSB_HOST_CLOSED,
	VUSB_HOST_GREETING,		/* hello was said, the host's hasn't come */
	VUSB_HOST_OPEN,
};

/* What is known of the file, and so how reads are done. */
enum vusb_probe {
	VUSB_PROBE_UNKNOWN,
	VUSB_PROBE_PARALLEL,
	VUSB_PROBE_TURNS,
	VUSB_PROBE_POLLED,
};

/* A record that is all header, to be sent. */
struct vusb_answer {
	u16 type;
	u16 device;
	u64 id;
};

/* Of the one read at a time, whoever answers it; not protected but by that. */
struct vusb_rx {
	struct vusb_reader reader;
	struct vusb_urb *urb;		/* whose completion is being read */
	struct vusb_end end;
	struct vusb_table table;
	u32 table_left;			/* bytes of it */
	u32 done;			/* bytes of data that have come */
	u32 packet;			/* that the next byte goes to */
	u32 packet_done;		/* bytes of it */
	char name[VUSB_MAX_NAME + 1];	/* of the host */
	u32 name_length;
};

/* The write thread's. */
struct vusb_tx {
	struct vusb_urb *urb;		/* whose record isn't whole yet */
	u32 done;			/* bytes of its payload */
	u32 payload;
	u32 padding;			/* behind it */
};

struct vusb_host {
	struct platform_device *pdev;
	struct vusb_channel *channel;
	struct vusb_root roots[2];	/* USB 2, USB 3 */
	unsigned int ports;		/* of each */

	spinlock_t lock;		/* of all that follows and doesn't say otherwise */
	enum vusb_host_state state;
	bool dead;			/* the module goes */
	bool mute;			/* the host didn't answer in time, and has said nothing since */
	bool quiet;			/* the host wants no submits at all */
	int error;			/* why the channel ended last */
	struct vusb_grant grant;
	struct vusb_device devices[VUSB_MAX_DEVICES];
	struct list_head ready;		/* devices with queued URBs, the next one first */
	struct list_head cancels;	/* URBs to be cancelled */
	struct list_head late;		/* URBs that were unlinked, the oldest first */
	struct vusb_urb *slots[VUSB_MAX_URBS];
	DECLARE_BITMAP(taken, VUSB_MAX_URBS);
	unsigned int next_slot;
	u64 generation;
	unsigned int urbs_sent;
	u32 bytes_sent;			/* credits in use */
	struct vusb_answer answers[VUSB_ANSWERS];
	unsigned int answers_begin;
	unsigned int answers_count;
	bool bye;
	struct completion bye_sent;
	unsigned long *handles;		/* used in this channel, a bitmap */

	enum vusb_probe probe;
	u64 ping;			/* id of the last one */
	u64 ping_reads;			/* that had ended when it was said */
	bool pinging;			/* its pong hasn't come */
	unsigned int strikes;
	u32 wait;			/* microseconds, as last said */
	unsigned long heard;		/* when the host last said something, jiffies */
	unsigned long opened;

	u64 losses;
	u64 urbs;
	u64 unlinks;
	u64 abandons;
	u64 no_memory;

	struct vusb_rx rx;
	struct vusb_tx tx;
	struct kmem_cache *cache;
	mempool_t *pool;
	struct workqueue_struct *queue;
	struct delayed_work watch;
	struct delayed_work late_work;
	struct dentry *debugfs;
};

static inline struct vusb_root *vusb_root(struct usb_hcd *hcd)
{
	return *(struct vusb_root **)hcd->hcd_priv;
}

/* vusb_urb.c */
int vusb_urb_enqueue(struct usb_hcd *hcd, struct urb *urb, gfp_t mem_flags);
int vusb_urb_dequeue(struct usb_hcd *hcd, struct urb *urb, int status);
void vusb_urb_detach(struct vusb_urb *vurb, int status, struct list_head *done);
void vusb_urb_abandon(struct vusb_urb *vurb, int status, struct list_head *done);
void vusb_urb_unpin(struct vusb_urb *vurb, struct list_head *done);
void vusb_urb_free(struct vusb_host *host, struct vusb_urb *vurb);
void vusb_urb_finish(struct vusb_host *host, struct vusb_urb *vurb, int status,
		     struct list_head *done);
void vusb_urbs_end(struct vusb_host *host, struct vusb_device *device, int status,
		   struct list_head *done);
void vusb_give_back(struct vusb_host *host, struct list_head *done);
void vusb_late_work(struct work_struct *work);

/* vusb_port.c */
int vusb_hub_control(struct usb_hcd *hcd, u16 request, u16 value, u16 index, char *buffer,
		     u16 length);
int vusb_hub_status_data(struct usb_hcd *hcd, char *buffer);
void vusb_port_connect(struct vusb_port *port, struct vusb_device *device);
void vusb_port_disconnect(struct vusb_port *port);
void vusb_port_reset_done(struct vusb_port *port, bool good);
void vusb_ports_init(struct vusb_root *root);
void vusb_ports_changed(struct vusb_host *host);

/* vusb_device.c */
extern const struct vusb_channel_ops vusb_channel_ops;
struct vusb_device *vusb_device_find(struct vusb_host *host, u16 handle);
struct vusb_device *vusb_device_at(struct vusb_root *root, struct usb_device *udev);
bool vusb_device_held(const struct vusb_device *device);
int vusb_device_add(struct vusb_host *host, const struct vusb_record *record);
void vusb_device_plug(struct vusb_host *host);
int vusb_device_remove(struct vusb_host *host, const struct vusb_record *record,
		       struct list_head *done);
void vusb_device_settle(struct vusb_device *device);
int vusb_device_reset_done(struct vusb_host *host, const struct vusb_record *record);
int vusb_device_quiesce(struct vusb_host *host, const struct vusb_record *record, bool quiet);
void vusb_devices_init(struct vusb_host *host);
void vusb_watch_work(struct work_struct *work);
int vusb_probe_empty(struct vusb_host *host);
void vusb_probe_pong(struct vusb_host *host, u64 id);
void vusb_probe_begin(struct vusb_host *host);

/* vusb_tx.c, vusb_rx.c */
bool vusb_answer(struct vusb_host *host, enum vusb_type type, u16 device, u64 id);
size_t vusb_fill(void *context, void *buffer, size_t size);
int vusb_received(void *context, const void *bytes, size_t count);

/* vusb_debugfs.c */
void vusb_debugfs_init(struct vusb_host *host);

#endif
