// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the guest says: fills the write thread's buffer with records, as many as fit.
 */
#include <linux/scatterlist.h>
#include <linux/string.h>
#include <linux/usb.h>
#include <linux/usb/hcd.h>

#include "vusb.h"

/* The longest record that isn't a URB. */
#define VUSB_TX_ROOM	(VUSB_RECORD_SIZE + VUSB_MAX_NAME)

/*
 * Queues a record that is all header. With the lock. False when the host asks for more answers than
 * it takes.
 */
bool vusb_answer(struct vusb_host *host, enum vusb_type type, u16 device, u64 id)
{
	struct vusb_answer *answer;

	if (host->answers_count == VUSB_ANSWERS)
		return false;
	answer = &host->answers[(host->answers_begin + host->answers_count) % VUSB_ANSWERS];
	answer->type = type;
	answer->device = device;
	answer->id = id;
	host->answers_count++;
	return true;
}

static size_t vusb_tx_answer(struct vusb_host *host, void *buffer)
{
	struct vusb_answer *answer = &host->answers[host->answers_begin];

	host->answers_begin = (host->answers_begin + 1) % VUSB_ANSWERS;
	host->answers_count--;
	if (answer->type == VUSB_HELLO) {
		struct vusb_greeting greeting = {
			.ports = host->ports,
			.features = VUSB_FEATURE_STREAMS | VUSB_FEATURE_ISO,
			.wait = host->wait,
			.name = VUSB_NAME " " VUSB_VERSION,
		};

		return vusb_build_hello(buffer, &greeting);
	}
	if (answer->type == VUSB_WAIT)
		return vusb_build_wait(buffer, host->wait, host->probe == VUSB_PROBE_TURNS ?
				       VUSB_WAIT_ONE_AT_A_TIME : 0);
	return vusb_build_plain(buffer, answer->type, answer->device, answer->id);
}

/* G2. One that ended meanwhile isn't in the list any more (G3). */
static size_t vusb_tx_cancel(struct vusb_host *host, void *buffer)
{
	struct vusb_urb *vurb = list_first_entry(&host->cancels, struct vusb_urb, cancel);

	list_del_init(&vurb->cancel);
	return vusb_build_plain(buffer, VUSB_CANCEL, vurb->device->handle, vurb->id);
}

/* Whether the host's credits are enough for the URB. */
static bool vusb_tx_may(const struct vusb_host *host, const struct vusb_urb *vurb)
{
	return host->urbs_sent < host->grant.urbs &&
	       vurb->asked.length <= host->grant.bytes - host->bytes_sent;
}

/*
 * Whether the device has its share: no more than would be left then. So there is something left for
 * the next, though others keep all their URBs waiting.
 */
static bool vusb_tx_has_share(const struct vusb_host *host, const struct vusb_urb *vurb)
{
	const struct vusb_device *device = vurb->device;
	u32 urbs_left = host->grant.urbs - host->urbs_sent;
	u32 bytes_left = host->grant.bytes - host->bytes_sent;

	return device->sent &&
	       (device->sent >= urbs_left ||
		device->bytes_sent + 2ULL * vurb->asked.length > bytes_left);
}

/* Devices take turns; one that waits for credits isn't overtaken, but where it has its share. */
static struct vusb_urb *vusb_tx_next(struct vusb_host *host)
{
	struct vusb_device *device;
	struct vusb_urb *vurb;

	list_for_each_entry(device, &host->ready, ready) {
		if (vusb_device_held(device))
			continue;
		vurb = list_first_entry(&device->queue, struct vusb_urb, queue);
		if (vusb_tx_has_share(host, vurb))
			continue;
		if (!vusb_tx_may(host, vurb))
			return NULL;
		list_del_init(&vurb->queue);
		device->queued--;
		if (list_empty(&device->queue))
			list_del_init(&device->ready);
		else
			list_move_tail(&device->ready, &host->ready);
		return vurb;
	}
	return NULL;
}

static void vusb_tx_take_slot(struct vusb_host *host, struct vusb_urb *vurb)
{
	unsigned int slot;

	slot = find_next_zero_bit(host->taken, host->grant.urbs, host->next_slot);
	if (slot >= host->grant.urbs)
		slot = find_first_zero_bit(host->taken, host->grant.urbs);
	host->next_slot = slot + 1;
	__set_bit(slot, host->taken);
	host->slots[slot] = vurb;
	host->generation++;
	vurb->id = host->generation << 16 | slot;
	vurb->state = VUSB_URB_SENDING;
	host->urbs_sent++;
	host->bytes_sent += vurb->asked.length;
	vurb->device->bytes_sent += vurb->asked.length;
	vurb->device->sent++;
}

static u8 vusb_tx_transfer(const struct urb *urb)
{
	switch (usb_pipetype(urb->pipe)) {
	case PIPE_CONTROL:
		return VUSB_CONTROL;
	case PIPE_ISOCHRONOUS:
		return VUSB_ISOCHRONOUS;
	case PIPE_INTERRUPT:
		return VUSB_INTERRUPT;
	default:
		return VUSB_BULK;
	}
}

static u8 vusb_tx_endpoint(const struct urb *urb)
{
	u8 address = urb->ep->desc.bEndpointAddress;

	if (!usb_pipecontrol(urb->pipe))
		return address;
	return (address & USB_ENDPOINT_NUMBER_MASK) | (urb->setup_packet[0] & USB_DIR_IN);
}

static size_t vusb_tx_record(struct vusb_host *host, struct vusb_urb *vurb, void *buffer)
{
	const struct vusb_asked *asked = &vurb->asked;
	const struct urb *urb = vurb->urb;
	struct vusb_request request = {
		.id = vurb->id,
		.device = vurb->device->handle,
		.endpoint = vusb_tx_endpoint(urb),
		.transfer = vusb_tx_transfer(urb),
		.stream = urb->stream_id,
		.packets = asked->packets,
		.length = asked->length,
		.interval = urb->interval,
		.setup = usb_pipecontrol(urb->pipe) ? urb->setup_packet : NULL,
		.payload = asked->packets * VUSB_PACKET_SIZE + (asked->in ? 0 : asked->length),
	};
	size_t size;

	if (urb->transfer_flags & URB_SHORT_NOT_OK)
		request.flags |= VUSB_URB_SHORT_NOT_OK;
	if (urb->transfer_flags & URB_ZERO_PACKET)
		request.flags |= VUSB_URB_ZERO_PACKET;
	size = vusb_build_submit(buffer, &request);
	host->tx.urb = vurb;
	host->tx.done = 0;
	host->tx.payload = request.payload;
	host->tx.padding = size - VUSB_RECORD_SIZE - request.payload;
	if (!asked->in)
		vurb->device->bytes_out += asked->length;
	return VUSB_RECORD_SIZE;
}

/* Copies a part of the packet table; returns how much of @count that was. */
static size_t vusb_tx_table(const struct urb *urb, u32 offset, u8 *buffer, size_t count)
{
	u32 index = offset / VUSB_PACKET_SIZE, skip = offset % VUSB_PACKET_SIZE;
	struct vusb_iso_packet packet = {
		.length = cpu_to_le32(urb->iso_frame_desc[index].length),
	};

	count = min_t(size_t, count, VUSB_PACKET_SIZE - skip);
	memcpy(buffer, (u8 *)&packet + skip, count);
	return count;
}

/* Copies of isochronous data, in the stream without the gaps that it may have in the URB. */
static size_t vusb_tx_packets(const struct urb *urb, u32 offset, u8 *buffer, size_t count)
{
	const struct usb_iso_packet_descriptor *packet = urb->iso_frame_desc;

	while (offset >= packet->length)
		offset -= packet++->length;
	count = min_t(size_t, count, packet->length - offset);
	memcpy(buffer, urb->transfer_buffer + packet->offset + offset, count);
	return count;
}

static size_t vusb_tx_data(const struct urb *urb, u32 offset, u8 *buffer, size_t count)
{
	if (urb->num_sgs)
		sg_pcopy_to_buffer(urb->sg, urb->num_sgs, buffer, count, offset);
	else
		memcpy(buffer, urb->transfer_buffer + offset, count);
	return count;
}

/* Copies a piece of the payload of a URB, without the lock: it's busy. */
static size_t vusb_tx_piece(const struct vusb_urb *vurb, u32 offset, u8 *buffer, size_t count)
{
	u32 table = vurb->asked.packets * VUSB_PACKET_SIZE;

	if (offset < table)
		return vusb_tx_table(vurb->urb, offset, buffer,
				     min_t(size_t, count, table - offset));
	if (vurb->asked.iso)
		return vusb_tx_packets(vurb->urb, offset - table, buffer, count);
	return vusb_tx_data(vurb->urb, offset, buffer, count);
}

/* As much as fits of the payload of the record that was begun. */
static size_t vusb_tx_payload(struct vusb_host *host, u8 *buffer, size_t size, bool there)
{
	struct vusb_tx *tx = &host->tx;
	size_t done = 0, count;

	while (done < size && tx->done < tx->payload) {
		count = min_t(size_t, size - done, tx->payload - tx->done);
		if (there)
			count = vusb_tx_piece(tx->urb, tx->done, buffer + done, count);
		else
			memset(buffer + done, 0, count); /* The host was promised so many bytes. */
		tx->done += count;
		done += count;
	}
	if (tx->done == tx->payload) {
		count = min_t(size_t, size - done, tx->padding);
		memset(buffer + done, 0, count);
		tx->padding -= count;
		done += count;
	}
	return done;
}

/* Goes on with a record that was begun. */
static size_t vusb_tx_go_on(struct vusb_host *host, u8 *buffer, size_t size)
{
	struct vusb_tx *tx = &host->tx;
	struct vusb_urb *vurb = tx->urb;
	LIST_HEAD(done);
	size_t count;
	bool there;

	spin_lock_irq(&host->lock);
	there = vurb->urb;
	vurb->busy = there;
	spin_unlock_irq(&host->lock);

	count = vusb_tx_payload(host, buffer, size, there);

	spin_lock_irq(&host->lock);
	if (tx->done == tx->payload && !tx->padding) {
		vurb->state = VUSB_URB_SENT;
		tx->urb = NULL;
	}
	vusb_urb_unpin(vurb, &done);
	spin_unlock_irq(&host->lock);
	vusb_give_back(host, &done);
	return count;
}

/* Begins the next record, whatever it is. */
static size_t vusb_tx_begin(struct vusb_host *host, void *buffer)
{
	struct vusb_urb *vurb;
	size_t count = 0;

	spin_lock_irq(&host->lock);
	if (host->answers_count) {
		count = vusb_tx_answer(host, buffer);
	} else if (host->state == VUSB_HOST_OPEN && !list_empty(&host->cancels)) {
		count = vusb_tx_cancel(host, buffer);
	} else if (host->state != VUSB_HOST_CLOSED && host->bye) {
		count = vusb_build_plain(buffer, VUSB_BYE, 0, 0);
		host->state = VUSB_HOST_CLOSED;
		complete(&host->bye_sent);
	} else if (host->state == VUSB_HOST_OPEN) {
		vurb = vusb_tx_next(host);
		if (vurb) {
			vusb_tx_take_slot(host, vurb);
			count = vusb_tx_record(host, vurb, buffer);
		}
	}
	spin_unlock_irq(&host->lock);
	return count;
}

/* The write thread's callback: fills @buffer. */
size_t vusb_fill(void *context, void *buffer, size_t size)
{
	struct vusb_host *host = context;
	size_t done = 0, count;

	for (;;) {
		if (host->tx.urb) {
			done += vusb_tx_go_on(host, buffer + done, size - done);
			if (host->tx.urb)
				return done;
		}
		if (size - done < VUSB_TX_ROOM)
			return done;
		count = vusb_tx_begin(host, buffer + done);
		if (!count)
			return done;
		done += count;
	}
}
