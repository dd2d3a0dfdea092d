// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the host says: a stream of records, taken apart where it lies in the channel's buffer.
 * Data are copied once, to the URB.
 */
#include <linux/jiffies.h>
#include <linux/printk.h>
#include <linux/scatterlist.h>
#include <linux/string.h>
#include <linux/usb.h>
#include <linux/usb/hcd.h>

#include "vusb.h"

/* The URB whose completion is being read is busy while there are bytes to be copied to it. */
static void vusb_rx_pin(struct vusb_host *host)
{
	struct vusb_urb *vurb = host->rx.urb;

	if (!vurb)
		return;
	spin_lock_irq(&host->lock);
	vurb->busy = vurb->urb;
	spin_unlock_irq(&host->lock);
}

static void vusb_rx_unpin(struct vusb_host *host)
{
	struct vusb_urb *vurb = host->rx.urb;
	LIST_HEAD(done);

	if (!vurb)
		return;
	spin_lock_irq(&host->lock);
	vusb_urb_unpin(vurb, &done);
	spin_unlock_irq(&host->lock);
	vusb_give_back(host, &done);
}

/* G5: whatever doesn't belong to a URB that was sent. */
static int vusb_rx_complete(struct vusb_host *host)
{
	struct vusb_rx *rx = &host->rx;
	const struct vusb_record *record = &rx->reader.record;
	u64 id = le64_to_cpu(record->id);
	unsigned int slot = VUSB_ID_SLOT(id);
	struct vusb_urb *vurb = NULL;
	int ret = -EPROTO;

	spin_lock_irq(&host->lock);
	if (host->state == VUSB_HOST_OPEN && slot < VUSB_MAX_URBS)
		vurb = host->slots[slot];
	if (vurb && vurb->id == id && vurb->state == VUSB_URB_SENT &&
	    vurb->device->handle == le16_to_cpu(record->device))
		ret = vusb_parse_complete(record, &vurb->asked, &rx->end);
	if (!ret) {
		vurb->state = VUSB_URB_ENDING;
		vurb->busy = vurb->urb;
		rx->urb = vurb;
	}
	spin_unlock_irq(&host->lock);
	if (ret)
		return ret;

	vusb_table_init(&rx->table);
	rx->table_left = rx->end.table;
	rx->done = 0;
	rx->packet = 0;
	rx->packet_done = 0;
	return 0;
}

static int vusb_rx_packets(struct vusb_rx *rx, struct vusb_bytes *in)
{
	struct urb *urb = rx->urb->busy ? rx->urb->urb : NULL;
	struct usb_iso_packet_descriptor *packet;
	struct vusb_packet_end end;

	while (in->count && vusb_table_next(&rx->table, in, &end)) {
		/* One that was given back asks for as much as it ever could. */
		if (!vusb_packet_fits(&end, urb ? urb->iso_frame_desc[end.index].length :
				      rx->urb->asked.length))
			return -EPROTO;
		if (!urb)
			continue;
		packet = &urb->iso_frame_desc[end.index];
		packet->actual_length = end.actual_length;
		packet->status = end.status;
	}
	return 0;
}

/* The table comes first, whole. */
static int vusb_rx_table(struct vusb_rx *rx, struct vusb_bytes *piece)
{
	struct vusb_bytes in = {
		.at = piece->at,
		.count = min_t(size_t, piece->count, rx->table_left),
	};
	size_t count = in.count;
	int ret = vusb_rx_packets(rx, &in);

	if (ret)
		return ret;
	rx->table_left -= count;
	piece->at += count;
	piece->count -= count;
	if (!rx->table_left && !vusb_table_adds_up(&rx->table, &rx->urb->asked, &rx->end))
		return -EPROTO;
	return 0;
}

/* Isochronous data come without the gaps that they may have in the URB. */
static void vusb_rx_spread(struct vusb_rx *rx, struct urb *urb, struct vusb_bytes piece)
{
	const struct usb_iso_packet_descriptor *packet;
	size_t count;

	while (piece.count && rx->packet < urb->number_of_packets) {
		packet = &urb->iso_frame_desc[rx->packet];
		count = min_t(size_t, piece.count, packet->actual_length - rx->packet_done);
		memcpy(urb->transfer_buffer + packet->offset + rx->packet_done, piece.at, count);
		piece.at += count;
		piece.count -= count;
		rx->packet_done += count;
		if (rx->packet_done == packet->actual_length) {
			rx->packet++;
			rx->packet_done = 0;
		}
	}
}

static int vusb_rx_payload(struct vusb_host *host, struct vusb_bytes piece)
{
	struct vusb_rx *rx = &host->rx;
	struct urb *urb;
	int ret = 0;

	if (rx->table_left)
		ret = vusb_rx_table(rx, &piece);
	/* What was given back has no memory to copy to. */
	urb = rx->urb->busy ? rx->urb->urb : NULL;
	if (ret || !piece.count || !urb)
		return ret;
	if (rx->urb->asked.iso)
		vusb_rx_spread(rx, urb, piece);
	else if (urb->num_sgs)
		sg_pcopy_from_buffer(urb->sg, urb->num_sgs, piece.at, piece.count, rx->done);
	else
		memcpy(urb->transfer_buffer + rx->done, piece.at, piece.count);
	rx->done += piece.count;
	return 0;
}

static void vusb_rx_end(struct vusb_host *host)
{
	struct vusb_rx *rx = &host->rx;
	struct vusb_urb *vurb = rx->urb;
	LIST_HEAD(done);
	bool waiting;

	spin_lock_irq(&host->lock);
	if (vurb->urb) {
		vurb->urb->actual_length = rx->end.actual_length;
		if (vurb->asked.iso) {
			vurb->urb->start_frame = rx->end.start_frame;
			vurb->urb->error_count = rx->end.error_count;
		}
	}
	if (vurb->asked.in)
		vurb->device->bytes_in += rx->end.actual_length;
	rx->urb = NULL;
	vusb_urb_finish(host, vurb, rx->end.status, &done);
	waiting = !list_empty(&host->ready) || host->answers_count;
	spin_unlock_irq(&host->lock);
	/* There are credits again. */
	if (waiting)
		vusb_channel_kick(host->channel);
	vusb_give_back(host, &done);
}

static int vusb_rx_hello(struct vusb_host *host, const struct vusb_record *record)
{
	struct vusb_grant grant;
	int ret = vusb_parse_hello(record, &grant);

	if (ret)
		return ret;
	if (host->state != VUSB_HOST_GREETING)
		return -EPROTO;
	spin_lock_irq(&host->lock);
	host->grant = grant;
	host->state = VUSB_HOST_OPEN;
	spin_unlock_irq(&host->lock);
	/* What UAS looks at before it takes a device. */
	host->roots[1].hcd->can_do_streams = !!(grant.features & VUSB_FEATURE_STREAMS);
	host->rx.name[host->rx.name_length] = 0;
	dev_info_ratelimited(&host->pdev->dev, "host found: %u URBs, %u KiB at once\n",
			     grant.urbs, grant.bytes / 1024);
	vusb_probe_begin(host);
	return 0;
}

static int vusb_rx_device(struct vusb_host *host, const struct vusb_record *record)
{
	bool waiting;
	LIST_HEAD(done);
	int ret = 0;

	spin_lock_irq(&host->lock);
	switch (le16_to_cpu(record->type)) {
	case VUSB_ADDED:
		ret = vusb_device_add(host, record);
		break;
	case VUSB_REMOVE:
		ret = vusb_device_remove(host, record, &done);
		break;
	case VUSB_RESET_DONE:
		ret = vusb_device_reset_done(host, record);
		break;
	case VUSB_QUIESCE:
		ret = vusb_device_quiesce(host, record, true);
		break;
	case VUSB_RESUME:
		ret = vusb_device_quiesce(host, record, false);
		break;
	}
	waiting = !list_empty(&host->ready) || host->answers_count;
	spin_unlock_irq(&host->lock);
	vusb_ports_changed(host);
	vusb_give_back(host, &done);
	if (waiting)
		vusb_channel_kick(host->channel);
	return ret;
}

/* A record that isn't a completion has come, whole. */
static int vusb_rx_record(struct vusb_host *host)
{
	const struct vusb_record *record = &host->rx.reader.record;

	if (record->type == cpu_to_le16(VUSB_HELLO))
		return vusb_rx_hello(host, record);
	if (host->state == VUSB_HOST_GREETING)
		return -EPROTO;
	/* Between BYE and the end nobody cares. */
	if (host->state != VUSB_HOST_OPEN)
		return 0;
	if (record->type == cpu_to_le16(VUSB_PONG)) {
		vusb_probe_pong(host, le64_to_cpu(record->id));
		return 0;
	}
	return vusb_rx_device(host, record);
}

static void vusb_rx_name(struct vusb_rx *rx, const struct vusb_bytes *piece)
{
	size_t count = min_t(size_t, piece->count, VUSB_MAX_NAME - rx->name_length);

	memcpy(rx->name + rx->name_length, piece->at, count);
	rx->name_length += count;
}

static int vusb_rx_step(struct vusb_host *host, int step, const struct vusb_bytes *piece)
{
	struct vusb_rx *rx = &host->rx;
	bool completion = rx->reader.record.type == cpu_to_le16(VUSB_COMPLETE);

	switch (step) {
	case VUSB_STEP_RECORD:
		if (completion)
			return vusb_rx_complete(host);
		if (rx->reader.record.type == cpu_to_le16(VUSB_HELLO))
			rx->name_length = 0;
		return 0;
	case VUSB_STEP_PAYLOAD:
		if (completion)
			return vusb_rx_payload(host, *piece);
		vusb_rx_name(rx, piece);
		return 0;
	case VUSB_STEP_END:
		if (!completion)
			return vusb_rx_record(host);
		vusb_rx_end(host);
		return 0;
	default:
		return 0;
	}
}

/* The callback of whoever answers a read. */
int vusb_received(void *context, const void *bytes, size_t count)
{
	struct vusb_bytes in = { .at = bytes, .count = count }, piece;
	struct vusb_host *host = context;
	int step, ret;

	WRITE_ONCE(host->heard, jiffies);
	WRITE_ONCE(host->mute, false);
	if (!count)
		return vusb_probe_empty(host);
	vusb_rx_pin(host);
	do {
		step = vusb_reader_next(&host->rx.reader, &in, &piece);
		ret = step < 0 ? step : vusb_rx_step(host, step, &piece);
	} while (step > 0 && !ret);
	vusb_rx_unpin(host);
	return ret;
}
