// SPDX-License-Identifier: GPL-2.0-only
/*
 * The root hubs: one for USB 2 and slower devices, one for USB 3.
 */
#include <linux/log2.h>
#include <linux/string.h>
#include <linux/usb.h>
#include <linux/usb/ch11.h>
#include <linux/usb/ch9.h>
#include <linux/usb/hcd.h>

#include "vusb.h"

/* wPortStatus of a USB 3 port's link. */
#define VUSB_LINK_SHIFT		5
#define VUSB_LINK_U0		0
#define VUSB_LINK_U3		3
#define VUSB_LINK_DISABLED	4
#define VUSB_LINK_RX_DETECT	5

static u16 vusb_power_bit(const struct vusb_root *root)
{
	return root->super ? USB_SS_PORT_STAT_POWER : USB_PORT_STAT_POWER;
}

static void vusb_port_set_link(struct vusb_port *port, unsigned int link)
{
	port->status &= ~USB_PORT_STAT_LINK_STATE;
	port->status |= link << VUSB_LINK_SHIFT;
}

static u16 vusb_speed_bits(const struct vusb_root *root, u8 speed)
{
	if (root->super)
		return 0;
	if (speed == VUSB_SPEED_LOW)
		return USB_PORT_STAT_LOW_SPEED;
	return speed == VUSB_SPEED_HIGH ? USB_PORT_STAT_HIGH_SPEED : 0;
}

static void vusb_port_clear(struct vusb_root *root, struct vusb_port *port)
{
	port->status &= vusb_power_bit(root);
	if (root->super)
		vusb_port_set_link(port, VUSB_LINK_RX_DETECT);
}

/* The hub driver then resets it, by which it's enabled. */
static void vusb_port_show(struct vusb_root *root, struct vusb_port *port)
{
	port->status |= USB_PORT_STAT_CONNECTION | vusb_speed_bits(root, port->device->speed);
	if (root->super)
		vusb_port_set_link(port, VUSB_LINK_U0);
	port->change |= USB_PORT_STAT_C_CONNECTION;
}

void vusb_ports_init(struct vusb_root *root)
{
	unsigned int i;

	for (i = 0; i < root->host->ports; i++)
		vusb_port_clear(root, &root->ports[i]);
}

void vusb_port_connect(struct vusb_port *port, struct vusb_device *device)
{
	port->device = device;
	device->port = port;
	device->address = 0;
	if (port->status & vusb_power_bit(device->root))
		vusb_port_show(device->root, port);
}

void vusb_port_disconnect(struct vusb_port *port)
{
	struct vusb_device *device = port->device;

	if (port->status & USB_PORT_STAT_CONNECTION)
		port->change |= USB_PORT_STAT_C_CONNECTION;
	vusb_port_clear(device->root, port);
	port->device = NULL;
	device->port = NULL;
}

/* Tells usbcore to look at the ports. Without the lock. */
void vusb_ports_changed(struct vusb_host *host)
{
	usb_hcd_poll_rh_status(host->roots[0].hcd);
	usb_hcd_poll_rh_status(host->roots[1].hcd);
}

void vusb_port_reset_done(struct vusb_port *port, bool good)
{
	struct vusb_root *root = port->device->root;

	port->status &= ~(USB_PORT_STAT_RESET | USB_PORT_STAT_ENABLE | USB_PORT_STAT_SUSPEND);
	if (root->super)
		vusb_port_set_link(port, VUSB_LINK_U0);
	if (good)
		port->status |= USB_PORT_STAT_ENABLE;
	port->change |= USB_PORT_STAT_C_RESET;
}

/*
 * The device knows of it only where that makes a difference: with every device that is plugged in
 * come two or three resets, and it was reset when the guest got it.
 *
 * A host that takes longer than the hub driver waits isn't asked again: the next attempt waits for
 * the same answer.
 */
static void vusb_port_reset(struct vusb_port *port)
{
	struct vusb_device *device = port->device;
	struct vusb_host *host;

	port->status |= USB_PORT_STAT_RESET;
	port->status &= ~USB_PORT_STAT_ENABLE;
	if (!device)
		return;
	device->address = 0;
	device->wakes = false;
	host = device->host;
	if (device->resetting)
		return;
	if (device->used && vusb_answer(host, VUSB_RESET, device->handle, device->reset_id + 1)) {
		device->reset_id++;
		device->resetting = true;
	} else {
		vusb_port_reset_done(port, true);
	}
}

static void vusb_port_set_power(struct vusb_root *root, struct vusb_port *port, bool on)
{
	u16 bit = vusb_power_bit(root);

	if (on == !!(port->status & bit))
		return;
	if (on) {
		port->status |= bit;
		if (port->device)
			vusb_port_show(root, port);
	} else {
		vusb_port_clear(root, port);
		port->status &= ~bit;
	}
}

/* A device that is to wake the guest can't be put to sleep: nobody would hear of it. */
static int vusb_port_suspend(struct vusb_port *port)
{
	if (port->device && port->device->wakes)
		return -EPIPE;
	return 0;
}

static int vusb_port_link(struct vusb_port *port, unsigned int link)
{
	int ret = 0;

	switch (link) {
	case VUSB_LINK_U0:
		if ((port->status & USB_PORT_STAT_LINK_STATE) == USB_SS_PORT_LS_U3)
			port->change |= USB_PORT_STAT_C_LINK_STATE;
		vusb_port_set_link(port, link);
		break;
	case VUSB_LINK_U3:
		ret = vusb_port_suspend(port);
		if (!ret)
			vusb_port_set_link(port, link);
		break;
	case VUSB_LINK_DISABLED:
		port->status &= ~USB_PORT_STAT_ENABLE;
		vusb_port_set_link(port, link);
		break;
	case VUSB_LINK_RX_DETECT:
		vusb_port_set_link(port, port->device ? VUSB_LINK_U0 : link);
		break;
	default:
		/* Compliance modes and the like: there is no wire. */
		break;
	}
	return ret;
}

static int vusb_port_set_super(struct vusb_root *root, struct vusb_port *port, u16 feature,
			       unsigned int argument)
{
	switch (feature) {
	case USB_PORT_FEAT_LINK_STATE:
		return vusb_port_link(port, argument);
	case USB_PORT_FEAT_BH_PORT_RESET:
		port->change |= USB_PORT_STAT_C_BH_RESET;
		vusb_port_reset(port);
		return 0;
	case USB_PORT_FEAT_U1_TIMEOUT:
	case USB_PORT_FEAT_U2_TIMEOUT:
	case USB_PORT_FEAT_REMOTE_WAKE_MASK:
	case USB_PORT_FEAT_FORCE_LINKPM_ACCEPT:
		return 0;
	default:
		return -EPIPE;
	}
}

static int vusb_port_set(struct vusb_root *root, struct vusb_port *port, u16 feature,
			 unsigned int argument)
{
	int ret;

	switch (feature) {
	case USB_PORT_FEAT_POWER:
		vusb_port_set_power(root, port, true);
		return 0;
	case USB_PORT_FEAT_RESET:
		vusb_port_reset(port);
		return 0;
	case USB_PORT_FEAT_SUSPEND:
		if (root->super)
			return -EPIPE;
		ret = vusb_port_suspend(port);
		if (!ret && port->status & USB_PORT_STAT_ENABLE)
			port->status |= USB_PORT_STAT_SUSPEND;
		return ret;
	case USB_PORT_FEAT_TEST:
	case USB_PORT_FEAT_INDICATOR:
		return 0;
	default:
		return root->super ? vusb_port_set_super(root, port, feature, argument) : -EPIPE;
	}
}

static int vusb_port_clear_feature(struct vusb_root *root, struct vusb_port *port, u16 feature)
{
	switch (feature) {
	case USB_PORT_FEAT_POWER:
		vusb_port_set_power(root, port, false);
		return 0;
	case USB_PORT_FEAT_ENABLE:
		port->status &= ~USB_PORT_STAT_ENABLE;
		return 0;
	case USB_PORT_FEAT_SUSPEND:
		if (root->super)
			return -EPIPE;
		if (port->status & USB_PORT_STAT_SUSPEND)
			port->change |= USB_PORT_STAT_C_SUSPEND;
		port->status &= ~USB_PORT_STAT_SUSPEND;
		return 0;
	case USB_PORT_FEAT_INDICATOR:
		return 0;
	case USB_PORT_FEAT_C_CONNECTION:
		port->change &= ~USB_PORT_STAT_C_CONNECTION;
		return 0;
	case USB_PORT_FEAT_C_ENABLE:
		port->change &= ~USB_PORT_STAT_C_ENABLE;
		return 0;
	case USB_PORT_FEAT_C_SUSPEND:
		port->change &= ~USB_PORT_STAT_C_SUSPEND;
		return 0;
	case USB_PORT_FEAT_C_OVER_CURRENT:
		port->change &= ~USB_PORT_STAT_C_OVERCURRENT;
		return 0;
	case USB_PORT_FEAT_C_RESET:
		port->change &= ~USB_PORT_STAT_C_RESET;
		return 0;
	case USB_PORT_FEAT_C_BH_PORT_RESET:
		port->change &= ~USB_PORT_STAT_C_BH_RESET;
		return 0;
	case USB_PORT_FEAT_C_PORT_LINK_STATE:
		port->change &= ~USB_PORT_STAT_C_LINK_STATE;
		return 0;
	case USB_PORT_FEAT_C_PORT_CONFIG_ERROR:
		port->change &= ~USB_PORT_STAT_C_CONFIG_ERROR;
		return 0;
	default:
		return -EPIPE;
	}
}

static int vusb_port_status(struct vusb_root *root, struct vusb_port *port, char *buffer)
{
	struct usb_port_status answer;

	/* There was nothing to reset. */
	if (!port->device && port->status & USB_PORT_STAT_RESET) {
		port->status &= ~USB_PORT_STAT_RESET;
		port->change |= USB_PORT_STAT_C_RESET;
	}
	answer.wPortStatus = cpu_to_le16(port->status);
	answer.wPortChange = cpu_to_le16(port->change);
	memcpy(buffer, &answer, 4);
	return 4;
}

static int vusb_hub_descriptor(struct vusb_root *root, struct usb_hub_descriptor *descriptor,
			       u16 length)
{
	unsigned int ports = root->host->ports, mask = ports / 8 + 1, size;

	size = root->super ? USB_DT_SS_HUB_SIZE : USB_DT_HUB_NONVAR_SIZE + 2 * mask;
	if (length < size)
		return -EPIPE;
	memset(descriptor, 0, size);
	descriptor->bDescLength = size;
	descriptor->bDescriptorType = root->super ? USB_DT_SS_HUB : USB_DT_HUB;
	descriptor->bNbrPorts = ports;
	descriptor->wHubCharacteristics =
		cpu_to_le16(HUB_CHAR_INDV_PORT_LPSM | HUB_CHAR_NO_OCPM);
	if (root->super)
		descriptor->u.ss.bHubHdrDecLat = 0x04;	/* 0.4 us, as everybody's */
	else
		memset(descriptor->u.hs.DeviceRemovable + mask, 0xff, mask);
	return size;
}

static const struct {
	struct usb_bos_descriptor bos;
	struct usb_ss_cap_descriptor super;
} __packed vusb_bos = {
	.bos = {
		.bLength = USB_DT_BOS_SIZE,
		.bDescriptorType = USB_DT_BOS,
		.wTotalLength = cpu_to_le16(sizeof(vusb_bos)),
		.bNumDeviceCaps = 1,
	},
	.super = {
		.bLength = USB_DT_USB_SS_CAP_SIZE,
		.bDescriptorType = USB_DT_DEVICE_CAPABILITY,
		.bDevCapabilityType = USB_SS_CAP_TYPE,
		.wSpeedSupported = cpu_to_le16(USB_5GBPS_OPERATION),
		.bFunctionalitySupport = ilog2(USB_5GBPS_OPERATION),
	},
};

static int vusb_hub_bos(struct vusb_root *root, u16 value, char *buffer, u16 length)
{
	if (!root->super || value >> 8 != USB_DT_BOS)
		return -EPIPE;
	length = min_t(u16, length, sizeof(vusb_bos));
	memcpy(buffer, &vusb_bos, length);
	return length;
}

static int vusb_port_control(struct vusb_root *root, u16 request, u16 value, u16 index,
			     char *buffer, u16 length)
{
	unsigned int number = index & 0xff;
	struct vusb_port *port;

	if (!number || number > root->host->ports)
		return -EPIPE;
	port = &root->ports[number - 1];
	switch (request) {
	case GetPortStatus:
		/* The extended one is for faster hubs. */
		return value || length < 4 ? -EPIPE : vusb_port_status(root, port, buffer);
	case SetPortFeature:
		return vusb_port_set(root, port, value, index >> 8);
	case ClearPortFeature:
		return vusb_port_clear_feature(root, port, value);
	case GetPortErrorCount:
		if (length < 4)
			return -EPIPE;
		memset(buffer, 0, 4);
		return 4;
	default:
		return -EPIPE;
	}
}

static int vusb_root_control(struct vusb_root *root, u16 request, u16 value, u16 index,
			     char *buffer, u16 length)
{
	switch (request) {
	case GetHubDescriptor:
		return vusb_hub_descriptor(root, (void *)buffer, length);
	case DeviceRequest | USB_REQ_GET_DESCRIPTOR:
		return vusb_hub_bos(root, value, buffer, length);
	case GetHubStatus:
		if (length < 4)
			return -EPIPE;
		memset(buffer, 0, 4);
		return 4;
	case SetHubDepth:
	case SetHubFeature:
	case ClearHubFeature:
		return 0;
	default:
		return vusb_port_control(root, request, value, index, buffer, length);
	}
}

int vusb_hub_control(struct usb_hcd *hcd, u16 request, u16 value, u16 index, char *buffer,
		     u16 length)
{
	struct vusb_root *root = vusb_root(hcd);
	struct vusb_host *host = root->host;
	unsigned long flags;
	int ret;

	if (!HCD_HW_ACCESSIBLE(hcd))
		return -ETIMEDOUT;
	spin_lock_irqsave(&host->lock, flags);
	ret = vusb_root_control(root, request, value, index, buffer, length);
	/* One that was free but for the hub driver's having seen that. */
	if (request == ClearPortFeature && value == USB_PORT_FEAT_C_CONNECTION)
		vusb_device_plug(host);
	spin_unlock_irqrestore(&host->lock, flags);

	/* What was said may want to be sent, and what was set may be a change. */
	if (request == SetPortFeature || request == ClearPortFeature) {
		vusb_channel_kick(host->channel);
		usb_hcd_poll_rh_status(hcd);
	}
	return ret;
}

int vusb_hub_status_data(struct usb_hcd *hcd, char *buffer)
{
	struct vusb_root *root = vusb_root(hcd);
	struct vusb_host *host = root->host;
	unsigned int i, size = host->ports / 8 + 1;
	unsigned long flags;
	bool changed = false;

	if (!HCD_HW_ACCESSIBLE(hcd))
		return 0;
	memset(buffer, 0, size);
	spin_lock_irqsave(&host->lock, flags);
	for (i = 0; i < host->ports; i++) {
		if (!root->ports[i].change)
			continue;
		buffer[(i + 1) / 8] |= 1 << ((i + 1) % 8);
		changed = true;
	}
	spin_unlock_irqrestore(&host->lock, flags);
	if (changed && hcd->state == HC_STATE_SUSPENDED)
		usb_hcd_resume_root_hub(hcd);
	return changed ? size : 0;
}
