// SPDX-License-Identifier: GPL-2.0-only
/*
 * What there is to see in debugfs: vusb_hcd/state.
 */
#include <linux/debugfs.h>
#include <linux/seq_file.h>
#include <linux/usb.h>
#include <linux/usb/hcd.h>

#include "vusb.h"

static const char *vusb_state_name(enum vusb_host_state state)
{
	switch (state) {
	case VUSB_HOST_GREETING:
		return "greeting";
	case VUSB_HOST_OPEN:
		return "open";
	default:
		return "closed";
	}
}

static const char *vusb_probe_name(enum vusb_probe probe)
{
	switch (probe) {
	case VUSB_PROBE_PARALLEL:
		return "parallel";
	case VUSB_PROBE_TURNS:
		return "one at a time";
	case VUSB_PROBE_POLLED:
		return "polled";
	default:
		return "not known yet";
	}
}

static const char *vusb_device_name(enum vusb_device_state state)
{
	switch (state) {
	case VUSB_DEVICE_ADDED:
		return "added";
	case VUSB_DEVICE_LEAVING:
		return "leaving";
	case VUSB_DEVICE_GONE:
		return "gone";
	default:
		return "free";
	}
}

static void vusb_show_channel(struct seq_file *file, struct vusb_host *host)
{
	struct vusb_channel_state state;

	vusb_channel_get_state(host->channel, &state);
	seq_printf(file, "path: %s\nfile: %s\nerror: %d\nopens: %llu\n", state.path,
		   state.open ? "open" : "closed", state.error, state.opens);
	seq_printf(file, "reads: %llu\nempty_reads: %llu\nbytes_read: %llu\nreading_ms: %u\n",
		   state.reads, state.empty_reads, state.bytes_read, state.reading);
	seq_printf(file, "writes: %llu\nbytes_written: %llu\nwriting_ms: %u\n",
		   state.writes, state.bytes_written, state.writing);
}

static void vusb_show_host(struct seq_file *file, struct vusb_host *host)
{
	const struct vusb_grant *grant = &host->grant;

	seq_printf(file, "channel: %s\nexporter: %s\nwait_us: %u\nquiet: %d\nlosses: %llu\n",
		   vusb_state_name(host->state), vusb_probe_name(host->probe), host->wait,
		   host->quiet, host->losses);
	if (host->state == VUSB_HOST_OPEN)
		seq_printf(file, "host: %*pE\nversion: %u\nfeatures:%s%s\n",
			   (int)host->rx.name_length, host->rx.name, grant->version,
			   grant->features & VUSB_FEATURE_STREAMS ? " streams" : "",
			   grant->features & VUSB_FEATURE_ISO ? " iso" : "");
	seq_printf(file, "max_urbs: %u\nmax_bytes: %u\nmax_transfer: %u\n", grant->urbs,
		   grant->bytes, grant->max_transfer);
	seq_printf(file, "urbs: %llu\nin_flight: %u\nbytes_in_flight: %u\nunlinked: %llu\n",
		   host->urbs, host->urbs_sent, host->bytes_sent, host->unlinks);
	seq_printf(file, "abandoned: %llu\nno_memory: %llu\n", host->abandons, host->no_memory);
}

static void vusb_show_device(struct seq_file *file, struct vusb_device *device)
{
	struct vusb_port *port = device->port;

	if (port)
		seq_printf(file, "port %s-%u: status %#06x ", device->root->super ? "usb3" : "usb2",
			   (unsigned int)(port - device->root->ports) + 1, port->status);
	else
		seq_puts(file, "no port: ");
	seq_printf(file, "device %u speed %u %s%s%s%s address %u queued %u in_flight %u ",
		   device->handle, device->speed, vusb_device_name(device->state),
		   device->quiet ? " quiet" : "", device->resetting ? " resetting" : "",
		   device->wakes ? " wakes" : "", device->address, device->queued, device->sent);
	seq_printf(file, "urbs %llu errors %llu unlinked %llu bytes_in %llu bytes_out %llu\n",
		   device->urbs, device->errors, device->unlinks, device->bytes_in,
		   device->bytes_out);
}

static int vusb_state_show(struct seq_file *file, void *unused)
{
	struct vusb_host *host = file->private;
	unsigned int i;

	vusb_show_channel(file, host);
	spin_lock_irq(&host->lock);
	vusb_show_host(file, host);
	for (i = 0; i < VUSB_MAX_DEVICES; i++)
		if (host->devices[i].state != VUSB_DEVICE_FREE)
			vusb_show_device(file, &host->devices[i]);
	spin_unlock_irq(&host->lock);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(vusb_state);

void vusb_debugfs_init(struct vusb_host *host)
{
	host->debugfs = debugfs_create_dir(VUSB_NAME, NULL);
	debugfs_create_file("state", 0444, host->debugfs, host, &vusb_state_fops);
}
