// SPDX-License-Identifier: GPL-2.0-only
/*
 * URBs from the drivers to the queue, and back.
 */
#include <linux/err.h>
#include <linux/interrupt.h>
#include <linux/jiffies.h>
#include <linux/slab.h>
#include <linux/usb.h>
#include <linux/usb/ch9.h>
#include <linux/usb/hcd.h>

#include "vusb.h"

/*
 * G11: never waits for memory. The reserve is for the case that memory is short, perhaps because a
 * disk behind this controller has yet to be written.
 */
static struct vusb_urb *vusb_urb_alloc(struct vusb_host *host, struct urb *urb)
{
	struct vusb_urb *vurb = mempool_alloc(host->pool, GFP_NOWAIT | __GFP_NOWARN);

	if (!vurb)
		return NULL;
	memset(vurb, 0, sizeof(*vurb));
	INIT_LIST_HEAD(&vurb->queue);
	INIT_LIST_HEAD(&vurb->cancel);
	INIT_LIST_HEAD(&vurb->late);
	vurb->urb = urb;
	return vurb;
}

/* Frees one that is in no list; its slot too, if it has one. */
void vusb_urb_free(struct vusb_host *host, struct vusb_urb *vurb)
{
	unsigned int slot = VUSB_ID_SLOT(vurb->id);

	list_del(&vurb->cancel);
	if (vurb->state != VUSB_URB_QUEUED) {
		host->slots[slot] = NULL;
		__clear_bit(slot, host->taken);
		host->urbs_sent--;
		host->bytes_sent -= vurb->asked.length;
		vurb->device->bytes_sent -= vurb->asked.length;
		vurb->device->sent--;
	}
	mempool_free(vurb, host->pool);
}

/* Takes the URB out of its entry, to be given back without the lock. */
void vusb_urb_detach(struct vusb_urb *vurb, int status, struct list_head *done)
{
	struct urb *urb = vurb->urb;

	list_del_init(&vurb->late);
	vurb->urb = NULL;
	usb_hcd_unlink_urb_from_ep(bus_to_hcd(urb->dev->bus), urb);
	/* Nobody looks at either from here on. */
	urb->hcpriv = ERR_PTR(status);
	list_add_tail(&urb->urb_list, done);
}

/* The same for one that may be busy: then it ends when it isn't. */
void vusb_urb_abandon(struct vusb_urb *vurb, int status, struct list_head *done)
{
	if (!vurb->urb)
		return;
	vurb->device->host->abandons++;
	if (vurb->busy)
		vurb->abandoned = status;
	else
		vusb_urb_detach(vurb, status, done);
}

/* A thread is through with the URB's memory. */
void vusb_urb_unpin(struct vusb_urb *vurb, struct list_head *done)
{
	vurb->busy = false;
	if (vurb->abandoned && vurb->urb)
		vusb_urb_detach(vurb, vurb->abandoned, done);
}

/*
 * Gives back what was detached. The drivers' handlers run in a softirq (HCD_BH), right here where
 * that is possible and not in a thread that has to be woken first.
 */
void vusb_give_back(struct vusb_host *host, struct list_head *done)
{
	bool softirq = !irqs_disabled();
	unsigned long flags;
	struct urb *urb;

	if (list_empty(done))
		return;
	if (softirq)
		local_bh_disable();
	/* usbcore wants interrupts off and, here, no lock of ours. */
	spin_lock_irqsave(&host->lock, flags);
	while (!list_empty(done)) {
		urb = list_first_entry(done, struct urb, urb_list);
		list_del_init(&urb->urb_list);
		spin_unlock(&host->lock);
		usb_hcd_giveback_urb(bus_to_hcd(urb->dev->bus), urb, PTR_ERR(urb->hcpriv));
		spin_lock(&host->lock);
	}
	spin_unlock_irqrestore(&host->lock, flags);
	if (softirq)
		local_bh_enable();
}

/* Its completion has come, whole. G3: a cancel that wasn't sent yet won't be. */
void vusb_urb_finish(struct vusb_host *host, struct vusb_urb *vurb, int status,
		     struct list_head *done)
{
	struct vusb_device *device = vurb->device;

	vurb->busy = false;
	if (status && list_empty(&vurb->late))
		device->errors++;
	if (vurb->urb)
		vusb_urb_detach(vurb, vurb->abandoned ? vurb->abandoned : status, done);
	vusb_urb_free(host, vurb);
	vusb_device_settle(device);
}

/* Ends all URBs of a device, or all there are; slots stay taken. */
void vusb_urbs_end(struct vusb_host *host, struct vusb_device *device, int status,
		   struct list_head *done)
{
	struct vusb_urb *vurb, *next;
	struct vusb_device *each;
	unsigned int slot;

	for (each = host->devices; each < host->devices + VUSB_MAX_DEVICES; each++) {
		if (device && each != device)
			continue;
		list_for_each_entry_safe(vurb, next, &each->queue, queue) {
			list_del_init(&vurb->queue);
			vusb_urb_detach(vurb, status, done);
			vusb_urb_free(host, vurb);
		}
		list_del_init(&each->ready);
		each->queued = 0;
	}
	for_each_set_bit(slot, host->taken, VUSB_MAX_URBS)
		if (!device || host->slots[slot]->device == device)
			vusb_urb_abandon(host->slots[slot], status, done);
}

/* Requests with which a device is only looked at, as every enumeration does. */
static bool vusb_urb_only_looks(const struct urb *urb)
{
	const struct usb_ctrlrequest *setup = (void *)urb->setup_packet;

	if (!usb_pipecontrol(urb->pipe))
		return false;
	if (!(setup->bRequestType & USB_DIR_IN) ||
	    (setup->bRequestType & USB_TYPE_MASK) != USB_TYPE_STANDARD)
		return false;
	return setup->bRequest == USB_REQ_GET_DESCRIPTOR ||
	       setup->bRequest == USB_REQ_GET_STATUS ||
	       setup->bRequest == USB_REQ_GET_CONFIGURATION;
}

/*
 * The address is between the root hub and the device. Everybody else knows the device by its
 * handle.
 */
static bool vusb_urb_sets_address(const struct urb *urb, u16 *address)
{
	const struct usb_ctrlrequest *setup = (void *)urb->setup_packet;

	if (!usb_pipecontrol(urb->pipe) || setup->bRequestType != 0 ||
	    setup->bRequest != USB_REQ_SET_ADDRESS)
		return false;
	*address = le16_to_cpu(setup->wValue);
	return true;
}

/* Remote wakeup, of the device or a function: then it can't be suspended, see vusb_port.c. */
static void vusb_urb_watch_wakeup(struct vusb_device *device, const struct urb *urb)
{
	const struct usb_ctrlrequest *setup = (void *)urb->setup_packet;

	if (!usb_pipecontrol(urb->pipe))
		return;
	if (setup->bRequest != USB_REQ_SET_FEATURE && setup->bRequest != USB_REQ_CLEAR_FEATURE)
		return;
	if (setup->bRequestType == USB_RECIP_DEVICE &&
	    setup->wValue == cpu_to_le16(USB_DEVICE_REMOTE_WAKEUP))
		device->wakes = setup->bRequest == USB_REQ_SET_FEATURE;
	if (setup->bRequestType == USB_RECIP_INTERFACE &&
	    setup->wValue == cpu_to_le16(USB_INTRF_FUNC_SUSPEND))
		device->wakes = setup->bRequest == USB_REQ_SET_FEATURE &&
				le16_to_cpu(setup->wIndex) & USB_INTRF_FUNC_SUSPEND_RW;
}

static int vusb_urb_asked_iso(const struct urb *urb, struct vusb_asked *asked)
{
	const struct usb_iso_packet_descriptor *packet;
	u64 sum = 0;
	int i;

	if (urb->number_of_packets <= 0 || urb->number_of_packets > VUSB_MAX_ISO_PACKETS)
		return -EINVAL;
	if (!urb->transfer_buffer && urb->transfer_buffer_length)
		return -EINVAL;
	for (i = 0; i < urb->number_of_packets; i++) {
		packet = &urb->iso_frame_desc[i];
		if (packet->offset > urb->transfer_buffer_length ||
		    packet->length > urb->transfer_buffer_length - packet->offset)
			return -EINVAL;
		sum += packet->length;
	}
	if (sum > VUSB_MAX_TRANSFER)
		return -EMSGSIZE;
	asked->length = sum;
	asked->packets = urb->number_of_packets;
	asked->iso = true;
	return 0;
}

static int vusb_urb_asked(const struct urb *urb, struct vusb_asked *asked)
{
	asked->in = usb_urb_dir_in((struct urb *)urb);
	if (usb_pipeisoc(urb->pipe))
		return vusb_urb_asked_iso(urb, asked);
	asked->length = urb->transfer_buffer_length;
	if (asked->length && !urb->transfer_buffer && !urb->num_sgs)
		return -EINVAL;
	return 0;
}

/* Whether the host takes it. */
static int vusb_urb_admit(struct vusb_host *host, struct vusb_device *device, struct urb *urb,
			  const struct vusb_asked *asked)
{
	if (host->dead)
		return -ESHUTDOWN;
	if (!device || device->state == VUSB_DEVICE_GONE)
		return -ENODEV;
	if (asked->length > host->grant.max_transfer)
		return -EMSGSIZE;
	if (asked->iso && !(host->grant.features & VUSB_FEATURE_ISO))
		return -EOPNOTSUPP;
	if (urb->stream_id && !(host->grant.features & VUSB_FEATURE_STREAMS))
		return -EOPNOTSUPP;
	return 0;
}

static void vusb_urb_queue(struct vusb_host *host, struct vusb_device *device,
			   struct vusb_urb *vurb)
{
	struct urb *urb = vurb->urb;

	vurb->device = device;
	urb->hcpriv = vurb;
	if (!vusb_urb_only_looks(urb))
		device->used = true;
	vusb_urb_watch_wakeup(device, urb);
	list_add_tail(&vurb->queue, &device->queue);
	if (list_empty(&device->ready))
		list_add_tail(&device->ready, &host->ready);
	device->queued++;
	device->urbs++;
	host->urbs++;
}

int vusb_urb_enqueue(struct usb_hcd *hcd, struct urb *urb, gfp_t mem_flags)
{
	struct vusb_root *root = vusb_root(hcd);
	struct vusb_host *host = root->host;
	struct vusb_device *device;
	struct vusb_urb *vurb;
	unsigned long flags;
	LIST_HEAD(done);
	u16 address;
	int ret;

	vurb = vusb_urb_alloc(host, urb);
	if (!vurb) {
		host->no_memory++;
		return -ENOMEM;
	}
	ret = vusb_urb_asked(urb, &vurb->asked);
	if (ret)
		goto free;

	spin_lock_irqsave(&host->lock, flags);
	device = vusb_device_at(root, urb->dev);
	ret = vusb_urb_admit(host, device, urb, &vurb->asked);
	if (!ret && usb_pipedevice(urb->pipe) != device->address)
		ret = -ENODEV;
	if (!ret)
		ret = usb_hcd_link_urb_to_ep(hcd, urb);
	if (ret) {
		spin_unlock_irqrestore(&host->lock, flags);
		goto free;
	}
	if (vusb_urb_sets_address(urb, &address)) {
		device->address = address;
		vurb->device = device;
		vusb_urb_detach(vurb, 0, &done);
		vusb_urb_free(host, vurb);
	} else {
		vusb_urb_queue(host, device, vurb);
	}
	spin_unlock_irqrestore(&host->lock, flags);

	if (list_empty(&done))
		vusb_channel_kick(host->channel);
	else
		vusb_give_back(host, &done);
	return 0;
free:
	mempool_free(vurb, host->pool);
	return ret;
}

static void vusb_urb_cancel(struct vusb_host *host, struct vusb_urb *vurb, struct list_head *done)
{
	if (host->dead || host->state != VUSB_HOST_OPEN) {
		vusb_urb_abandon(vurb, -ECONNRESET, done);
		return;
	}
	list_add_tail(&vurb->cancel, &host->cancels);
	if (host->mute) {
		vusb_urb_abandon(vurb, -ECONNRESET, done);
		return;
	}
	vurb->unlinked = jiffies;
	list_add_tail(&vurb->late, &host->late);
	queue_delayed_work(host->queue, &host->late_work, VUSB_UNLINK_BOUND * HZ);
}

int vusb_urb_dequeue(struct usb_hcd *hcd, struct urb *urb, int status)
{
	struct vusb_host *host = vusb_root(hcd)->host;
	struct vusb_device *device;
	struct vusb_urb *vurb;
	unsigned long flags;
	LIST_HEAD(done);
	int ret;

	spin_lock_irqsave(&host->lock, flags);
	ret = usb_hcd_check_unlink_urb(hcd, urb, status);
	if (ret)
		goto unlock;
	vurb = urb->hcpriv;
	device = vurb->device;
	device->unlinks++;
	host->unlinks++;
	switch (vurb->state) {
	case VUSB_URB_QUEUED:	/* G1 */
		list_del_init(&vurb->queue);
		if (list_empty(&device->queue))
			list_del_init(&device->ready);
		device->queued--;
		vusb_urb_detach(vurb, status, &done);
		vusb_urb_free(host, vurb);
		break;
	case VUSB_URB_SENDING:	/* G2: the cancel goes when the record is whole */
	case VUSB_URB_SENT:	/* G2 */
	case VUSB_URB_ENDING:	/* G3: it ends by itself, or by G4 if the rest doesn't come */
		vusb_urb_cancel(host, vurb, &done);
		break;
	}
unlock:
	spin_unlock_irqrestore(&host->lock, flags);
	vusb_give_back(host, &done);
	if (!ret)
		vusb_channel_kick(host->channel);
	return ret;
}

/*
 * G4: the host had its time. Drivers unlink one URB after the other: as long as nothing at all comes
 * from the host, the first has waited for all of them.
 */
void vusb_late_work(struct work_struct *work)
{
	struct vusb_host *host = container_of(to_delayed_work(work), struct vusb_host, late_work);
	unsigned long bound, now = jiffies;
	struct vusb_urb *vurb, *next;
	LIST_HEAD(done);

	spin_lock_irq(&host->lock);
	list_for_each_entry_safe(vurb, next, &host->late, late) {
		bound = vurb->unlinked + VUSB_UNLINK_BOUND * HZ;
		if (!host->mute && time_before(now, bound)) {
			queue_delayed_work(host->queue, &host->late_work, bound - now);
			break;
		}
		list_del_init(&vurb->late);
		vusb_urb_abandon(vurb, -ECONNRESET, &done);
		host->mute = time_before_eq(READ_ONCE(host->heard), vurb->unlinked);
	}
	spin_unlock_irq(&host->lock);
	vusb_give_back(host, &done);
}
