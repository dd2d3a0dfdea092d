// SPDX-License-Identifier: GPL-2.0-only
/*
 * Devices as the host adds and removes them, and the channel that they come by.
 */
#include <linux/bitmap.h>
#include <linux/jiffies.h>
#include <linux/string.h>
#include <linux/usb.h>
#include <linux/usb/hcd.h>

#include "vusb.h"

#define VUSB_HANDLES	65536

/* All but the work and the callbacks are called with the lock. */

struct vusb_device *vusb_device_find(struct vusb_host *host, u16 handle)
{
	struct vusb_device *device;

	for (device = host->devices; device < host->devices + VUSB_MAX_DEVICES; device++)
		if (device->state != VUSB_DEVICE_FREE && device->handle == handle)
			return device;
	return NULL;
}

/* The device that a guest's device stands for. All are at a root hub. */
struct vusb_device *vusb_device_at(struct vusb_root *root, struct usb_device *udev)
{
	unsigned int number = udev->portnum;

	if (!udev->parent || udev->parent->parent)
		return NULL;
	if (!number || number > root->host->ports)
		return NULL;
	return root->ports[number - 1].device;
}

/* Whether its URBs have to wait. A removal ends a quiesce. */
bool vusb_device_held(const struct vusb_device *device)
{
	const struct vusb_host *host = device->host;

	if (device->resetting)
		return true;
	return device->state == VUSB_DEVICE_ADDED && (device->quiet || host->quiet);
}

static struct vusb_port *vusb_port_pick(struct vusb_host *host, struct vusb_root *root, u32 wanted)
{
	struct vusb_port *port, *found = NULL;
	unsigned int i;

	for (i = 0; i < host->ports; i++) {
		port = &root->ports[i];
		/* One whose change wasn't seen would have its next device taken for the last. */
		if (!port->device && port->change & USB_PORT_STAT_C_CONNECTION) {
			if (i + 1 == wanted)
				return NULL;
			continue;
		}
		if (port->device)
			continue;
		if (i + 1 == wanted)
			return port;
		if (!found)
			found = port;
	}
	return found;
}

/* Finds ports for those that have none. */
void vusb_device_plug(struct vusb_host *host)
{
	struct vusb_device *device;
	struct vusb_port *port;

	if (host->dead)
		return;
	for (device = host->devices; device < host->devices + VUSB_MAX_DEVICES; device++) {
		if (device->state != VUSB_DEVICE_ADDED || device->port)
			continue;
		port = vusb_port_pick(host, device->root, device->wanted_port);
		if (port)
			vusb_port_connect(port, device);
	}
}

static void vusb_device_begin(struct vusb_device *device, const struct vusb_record *record)
{
	struct vusb_host *host = device->host;

	device->state = VUSB_DEVICE_ADDED;
	device->handle = le16_to_cpu(record->device);
	device->speed = record->added.speed;
	device->wanted_port = le32_to_cpu(record->added.port);
	device->root = &host->roots[device->speed >= VUSB_SPEED_SUPER];
	device->address = 0;
	device->quiet = false;
	device->used = false;
	device->wakes = false;
	device->resetting = false;
	device->reset_id = 0;
	device->queued = 0;
	device->sent = 0;
	device->bytes_sent = 0;
	device->urbs = 0;
	device->errors = 0;
	device->unlinks = 0;
	device->bytes_in = 0;
	device->bytes_out = 0;
}

int vusb_device_add(struct vusb_host *host, const struct vusb_record *record)
{
	struct vusb_device *device;

	if (__test_and_set_bit(le16_to_cpu(record->device), host->handles))
		return -EPROTO;
	for (device = host->devices; device < host->devices + VUSB_MAX_DEVICES; device++) {
		if (device->state != VUSB_DEVICE_FREE)
			continue;
		vusb_device_begin(device, record);
		vusb_device_plug(host);
		return 0;
	}
	return -EPROTO;
}

/* Once nothing of it is left at the host: the answer to its removal. */
void vusb_device_settle(struct vusb_device *device)
{
	struct vusb_host *host = device->host;

	if (device->state != VUSB_DEVICE_GONE || device->sent)
		return;
	/* There is always room: as many devices as there can be, and a reset of each. */
	vusb_answer(host, VUSB_REMOVED, device->handle, 0);
	device->state = VUSB_DEVICE_FREE;
}

/* G7 */
static void vusb_device_unplug(struct vusb_device *device, struct list_head *done)
{
	struct vusb_host *host = device->host;

	device->state = VUSB_DEVICE_GONE;
	device->resetting = false;
	if (device->port)
		vusb_port_disconnect(device->port);
	vusb_urbs_end(host, device, -ESHUTDOWN, done);
	vusb_device_settle(device);
}

/* For a device that was: 0. The host may not have heard yet that it is gone. */
static int vusb_device_missing(struct vusb_host *host, u16 handle)
{
	return test_bit(handle, host->handles) ? 0 : -EPROTO;
}

int vusb_device_remove(struct vusb_host *host, const struct vusb_record *record,
		       struct list_head *done)
{
	u16 handle = le16_to_cpu(record->device);
	struct vusb_device *device = vusb_device_find(host, handle);

	if (!device)
		return vusb_device_missing(host, handle);
	if (device->state == VUSB_DEVICE_GONE)
		return 0;
	/* One that the guest never saw has no drivers, and with the module they are let go anyway. */
	if (record->remove.removal == VUSB_REMOVE_NOW || !device->port || host->dead) {
		vusb_device_unplug(device, done);
	} else if (device->state == VUSB_DEVICE_ADDED) {
		device->state = VUSB_DEVICE_LEAVING;
		queue_work(system_long_wq, &device->orderly);
	}
	return 0;
}

int vusb_device_reset_done(struct vusb_host *host, const struct vusb_record *record)
{
	u16 handle = le16_to_cpu(record->device);
	struct vusb_device *device = vusb_device_find(host, handle);
	bool good = !record->result.status;

	if (!device || device->state == VUSB_DEVICE_GONE)
		return vusb_device_missing(host, handle);
	if (!device->resetting || le64_to_cpu(record->id) != device->reset_id)
		return -EPROTO;
	device->resetting = false;
	/* One that failed is to be tried again, not to be taken for one that is fresh. */
	device->used = !good;
	if (device->port)
		vusb_port_reset_done(device->port, good);
	return 0;
}

int vusb_device_quiesce(struct vusb_host *host, const struct vusb_record *record, bool quiet)
{
	enum vusb_type answer = quiet ? VUSB_QUIESCED : VUSB_RESUMED;
	u16 handle = le16_to_cpu(record->device);
	struct vusb_device *device;
	unsigned int i;

	if (!handle) {
		host->quiet = quiet;
		/* A resume of all ends the quiesce of each one. */
		for (i = 0; !quiet && i < VUSB_MAX_DEVICES; i++)
			host->devices[i].quiet = false;
	} else {
		device = vusb_device_find(host, handle);
		if (!device)
			return vusb_device_missing(host, handle);
		device->quiet = quiet;
	}
	return vusb_answer(host, answer, handle, le64_to_cpu(record->id)) ? 0 : -EPROTO;
}

/* The guest's device, if it's still this one, locked and with a reference. */
static struct usb_device *vusb_device_lock(struct vusb_device *device, u16 handle)
{
	struct vusb_host *host = device->host;
	struct usb_device *hub, *udev = NULL;
	unsigned int number = 0;
	u8 address;

	spin_lock_irq(&host->lock);
	hub = device->root->hcd->self.root_hub;
	if (device->state == VUSB_DEVICE_LEAVING && device->handle == handle && device->port)
		number = device->port - device->root->ports + 1;
	address = device->address;
	spin_unlock_irq(&host->lock);
	if (!number)
		return NULL;

	/* The hub's lock: nothing is being plugged in or out meanwhile. */
	usb_lock_device(hub);
	udev = usb_hub_find_child(hub, number);
	if (udev)
		usb_get_dev(udev);
	usb_unlock_device(hub);
	if (!udev)
		return NULL;
	usb_lock_device(udev);
	if (udev->state != USB_STATE_NOTATTACHED && udev->devnum == address)
		return udev;
	usb_unlock_device(udev);
	usb_put_dev(udev);
	return NULL;
}

/* G8 */
static void vusb_orderly_work(struct work_struct *work)
{
	struct vusb_device *device = container_of(work, struct vusb_device, orderly);
	struct vusb_host *host = device->host;
	struct usb_device *udev;
	LIST_HEAD(done);
	u16 handle;

	spin_lock_irq(&host->lock);
	handle = device->handle;
	spin_unlock_irq(&host->lock);

	udev = vusb_device_lock(device, handle);
	if (udev) {
		/* Unbinds the drivers; what they still have to say is said. */
		usb_set_configuration(udev, -1);
		usb_unlock_device(udev);
		usb_put_dev(udev);
	}

	/* Meanwhile it may have gone, and another one may be here. */
	spin_lock_irq(&host->lock);
	if (device->state == VUSB_DEVICE_LEAVING && device->handle == handle)
		vusb_device_unplug(device, &done);
	spin_unlock_irq(&host->lock);
	vusb_ports_changed(host);
	vusb_give_back(host, &done);
	vusb_channel_kick(host->channel);
}

void vusb_devices_init(struct vusb_host *host)
{
	struct vusb_device *device;

	for (device = host->devices; device < host->devices + VUSB_MAX_DEVICES; device++) {
		device->host = host;
		device->root = &host->roots[0];
		INIT_LIST_HEAD(&device->queue);
		INIT_LIST_HEAD(&device->ready);
		INIT_WORK(&device->orderly, vusb_orderly_work);
	}
}

/* The channel */

static void vusb_opened(void *context)
{
	struct vusb_host *host = context;

	spin_lock_irq(&host->lock);
	bitmap_zero(host->handles, VUSB_HANDLES);
	__set_bit(0, host->handles);
	host->answers_begin = 0;
	host->answers_count = 0;
	host->quiet = false;
	host->mute = false;
	host->probe = VUSB_PROBE_UNKNOWN;
	host->pinging = false;
	host->strikes = 0;
	host->wait = VUSB_WAIT_PROBE;
	/* Where a read goes on until there is nothing more it may not wait at all. */
	if (vusb_channel_reads_all(host->channel)) {
		host->probe = VUSB_PROBE_POLLED;
		host->wait = 0;
	}
	host->opened = jiffies;
	host->heard = jiffies;
	host->state = VUSB_HOST_GREETING;
	vusb_answer(host, VUSB_HELLO, 0, 0);
	spin_unlock_irq(&host->lock);
	vusb_reader_init(&host->rx.reader, VUSB_MAX_TRANSFER);
	vusb_channel_kick(host->channel);
	mod_delayed_work(host->queue, &host->watch, VUSB_HELLO_BOUND * HZ);
}

/* G5, G6: no thread is in a callback, and none will be until the file is opened again. */
static void vusb_closed(void *context, int error)
{
	struct vusb_host *host = context;
	struct vusb_device *device;
	bool lost, news;
	LIST_HEAD(done);
	unsigned int slot;

	spin_lock_irq(&host->lock);
	lost = host->state == VUSB_HOST_OPEN;
	news = lost || error != host->error;
	host->error = error;
	host->losses += lost;
	host->state = VUSB_HOST_CLOSED;
	host->rx.urb = NULL;
	host->tx.urb = NULL;
	vusb_urbs_end(host, NULL, -ESHUTDOWN, &done);
	for_each_set_bit(slot, host->taken, VUSB_MAX_URBS)
		vusb_urb_free(host, host->slots[slot]);
	for (device = host->devices; device < host->devices + VUSB_MAX_DEVICES; device++) {
		if (device->state == VUSB_DEVICE_FREE)
			continue;
		if (device->port)
			vusb_port_disconnect(device->port);
		device->state = VUSB_DEVICE_FREE;
	}
	spin_unlock_irq(&host->lock);
	vusb_give_back(host, &done);
	vusb_ports_changed(host);
	if (news)
		dev_info_ratelimited(&host->pdev->dev, "host lost: error %d\n", error);
}

const struct vusb_channel_ops vusb_channel_ops = {
	.opened = vusb_opened,
	.closed = vusb_closed,
	.received = vusb_received,
	.fill = vusb_fill,
};

/* One at a time: see the last section of Channel.md */

void vusb_probe_begin(struct vusb_host *host)
{
	mod_delayed_work(host->queue, &host->watch, msecs_to_jiffies(VUSB_PROBE_STEP));
}

static void vusb_probe_decide(struct vusb_host *host, enum vusb_probe probe, u32 wait)
{
	spin_lock_irq(&host->lock);
	host->probe = probe;
	host->wait = min(wait, host->grant.wait);
	vusb_answer(host, VUSB_WAIT, 0, 0);
	spin_unlock_irq(&host->lock);
	vusb_channel_kick(host->channel);
}

/* From the received callback: a read returned with nothing. */
int vusb_probe_empty(struct vusb_host *host)
{
	if (host->probe != VUSB_PROBE_UNKNOWN || !READ_ONCE(host->pinging))
		return 0;
	if (++host->strikes < VUSB_PROBE_STRIKES)
		return 0;
	WRITE_ONCE(host->pinging, false);
	vusb_probe_decide(host, VUSB_PROBE_TURNS, VUSB_WAIT_SHORT);
	vusb_channel_take_turns(host->channel, true);
	dev_warn(&host->pdev->dev,
		 "what exports the file serves one request at a time; see vusbctl doctor on the host\n");
	return 0;
}

/*
 * A pong in the very read that was waiting when the ping went: both were under way at the same time.
 * In a later one it proves nothing, something else may have ended that read.
 */
void vusb_probe_pong(struct vusb_host *host, u64 id)
{
	struct vusb_channel_state state;

	if (id != host->ping)
		return;
	WRITE_ONCE(host->pinging, false);
	vusb_channel_get_state(host->channel, &state);
	if (host->probe == VUSB_PROBE_UNKNOWN && state.reads == host->ping_reads + 1)
		vusb_probe_decide(host, VUSB_PROBE_PARALLEL, VUSB_WAIT_LONG);
}

static unsigned long vusb_probe_look(struct vusb_host *host)
{
	struct vusb_channel_state state;

	vusb_channel_get_state(host->channel, &state);
	/* Early in the wait: a late one could just miss it. */
	if (!host->pinging && state.reading >= VUSB_PROBE_STEP &&
	    state.reading < VUSB_WAIT_PROBE / USEC_PER_MSEC / 2) {
		spin_lock_irq(&host->lock);
		host->ping++;
		host->ping_reads = state.reads;
		WRITE_ONCE(host->pinging, true);
		vusb_answer(host, VUSB_PING, 0, host->ping);
		spin_unlock_irq(&host->lock);
		vusb_channel_kick(host->channel);
	}
	return msecs_to_jiffies(VUSB_PROBE_STEP);
}

/* Jiffies from now until then; 0: then was. */
static unsigned long vusb_until(unsigned long then)
{
	unsigned long now = jiffies;

	return time_after(then, now) ? then - now : 0;
}

/* G6: a host that says nothing, not even that there's nothing. */
void vusb_watch_work(struct work_struct *work)
{
	struct vusb_host *host = container_of(to_delayed_work(work), struct vusb_host, watch);
	unsigned long bound, left, settled;

	if (host->state == VUSB_HOST_CLOSED || host->dead)
		return;
	if (host->state == VUSB_HOST_GREETING)
		bound = host->opened + VUSB_HELLO_BOUND * HZ;
	else
		bound = READ_ONCE(host->heard) + usecs_to_jiffies(host->wait) +
			VUSB_SILENCE_BOUND * HZ;
	left = vusb_until(bound);
	if (!left) {
		vusb_channel_fail(host->channel, -ETIMEDOUT);
		return;
	}
	if (host->state == VUSB_HOST_OPEN) {
		/* Only one that lasts is worth opening again at once. */
		settled = host->opened + VUSB_SETTLE_BOUND * HZ;
		if (vusb_until(settled))
			left = min(left, vusb_until(settled));
		else
			vusb_channel_settle(host->channel);
		if (host->probe == VUSB_PROBE_UNKNOWN)
			left = min(left, vusb_probe_look(host));
	}
	mod_delayed_work(host->queue, &host->watch, left);
}
