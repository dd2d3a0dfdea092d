// SPDX-License-Identifier: GPL-2.0-only
/*
 * vusb_hcd: a host controller whose devices come from vusbd, through a file.
 */
#include <linux/bitmap.h>
#include <linux/debugfs.h>
#include <linux/err.h>
#include <linux/jiffies.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/pm.h>
#include <linux/slab.h>
#include <linux/usb.h>
#include <linux/usb/hcd.h>

#include "vusb.h"
#include "vusb_compat.h"

/* URBs that can be had though there is no memory (G11). */
#define VUSB_RESERVE	128
/* Milliseconds for saying goodbye. */
#define VUSB_BYE_BOUND	200

static char *path = "/vusb/hcd";
module_param(path, charp, 0444);
MODULE_PARM_DESC(path, "file of the channel to the host (default /vusb/hcd)");

static unsigned int ports = VUSB_MAX_PORTS;
module_param(ports, uint, 0444);
MODULE_PARM_DESC(ports, "ports of each of the two root hubs, 1 to 15 (default 15)");

static struct platform_device *vusb_pdev;

static int vusb_hcd_reset(struct usb_hcd *hcd)
{
	struct vusb_root *root = vusb_root(hcd);

	hcd->self.sg_tablesize = ~0;
	hcd->self.no_sg_constraint = 1;
	if (root->super) {
		hcd->speed = HCD_USB3;
		hcd->self.root_hub->speed = USB_SPEED_SUPER;
	} else {
		hcd->has_tt = 1;
		hcd->speed = HCD_USB2;
		hcd->self.root_hub->speed = USB_SPEED_HIGH;
	}
	return 0;
}

static int vusb_hcd_start(struct usb_hcd *hcd)
{
	hcd->uses_new_polling = 1;
	hcd->state = HC_STATE_RUNNING;
	return 0;
}

static void vusb_hcd_stop(struct usb_hcd *hcd)
{
	hcd->state = HC_STATE_HALT;
}

/* Of 1 ms, as a full-speed bus counts them. */
static int vusb_get_frame_number(struct usb_hcd *hcd)
{
	return ktime_to_ms(ktime_get()) & 0x7ff;
}

static int vusb_bus_suspend(struct usb_hcd *hcd)
{
	hcd->state = HC_STATE_SUSPENDED;
	return 0;
}

static int vusb_bus_resume(struct usb_hcd *hcd)
{
	if (!HCD_HW_ACCESSIBLE(hcd))
		return -ESHUTDOWN;
	hcd->state = HC_STATE_RUNNING;
	return 0;
}

/*
 * The host hears of streams with the URBs that use them. Here it's only seen to that drivers don't
 * use more than their endpoints have.
 */
static int vusb_alloc_streams(struct usb_hcd *hcd, struct usb_device *udev,
			      struct usb_host_endpoint **endpoints, unsigned int count,
			      unsigned int streams, gfp_t mem_flags)
{
	struct vusb_host *host = vusb_root(hcd)->host;
	unsigned int i;

	if (!(host->grant.features & VUSB_FEATURE_STREAMS))
		return -EOPNOTSUPP;
	/* The ids beyond are the bus's own. */
	streams = min(streams, 65533U);
	for (i = 0; i < count; i++)
		streams = min_t(unsigned int, streams,
				usb_ss_max_streams(&endpoints[i]->ss_ep_comp));
	return streams ?: -EINVAL;
}

static int vusb_free_streams(struct usb_hcd *hcd, struct usb_device *udev,
			     struct usb_host_endpoint **endpoints, unsigned int count,
			     gfp_t mem_flags)
{
	return 0;
}

static const struct hc_driver vusb_hc_driver = {
	.description = VUSB_NAME,
	.product_desc = "vusb host controller",
	.hcd_priv_size = sizeof(struct vusb_root *),
	.flags = HCD_USB3 | HCD_SHARED | HCD_BH,
	.reset = vusb_hcd_reset,
	.start = vusb_hcd_start,
	.stop = vusb_hcd_stop,
	.urb_enqueue = vusb_urb_enqueue,
	.urb_dequeue = vusb_urb_dequeue,
	.get_frame_number = vusb_get_frame_number,
	.hub_status_data = vusb_hub_status_data,
	.hub_control = vusb_hub_control,
	.bus_suspend = vusb_bus_suspend,
	.bus_resume = vusb_bus_resume,
	.alloc_streams = vusb_alloc_streams,
	.free_streams = vusb_free_streams,
};

/* Queues and reserves: all there is to be allocated (G11). */
static struct vusb_host *vusb_host_alloc(struct platform_device *pdev)
{
	struct vusb_host *host = kvzalloc(sizeof(*host), GFP_KERNEL);

	if (!host)
		return NULL;
	host->handles = bitmap_zalloc(1 << 16, GFP_KERNEL);
	if (!host->handles)
		goto free_host;
	host->cache = kmem_cache_create("vusb_urb", sizeof(struct vusb_urb), 0, 0, NULL);
	if (!host->cache)
		goto free_handles;
	host->pool = mempool_create_slab_pool(VUSB_RESERVE, host->cache);
	if (!host->pool)
		goto free_cache;
	/* Its works end what a disk may be waiting for. */
	host->queue = alloc_workqueue("vusb_hcd", WQ_MEM_RECLAIM, 0);
	if (!host->queue)
		goto free_pool;

	host->pdev = pdev;
	host->ports = ports;
	spin_lock_init(&host->lock);
	init_completion(&host->bye_sent);
	INIT_LIST_HEAD(&host->ready);
	INIT_LIST_HEAD(&host->cancels);
	INIT_LIST_HEAD(&host->late);
	INIT_DELAYED_WORK(&host->watch, vusb_watch_work);
	INIT_DELAYED_WORK(&host->late_work, vusb_late_work);
	vusb_devices_init(host);
	return host;
free_pool:
	mempool_destroy(host->pool);
free_cache:
	kmem_cache_destroy(host->cache);
free_handles:
	bitmap_free(host->handles);
free_host:
	kvfree(host);
	return NULL;
}

static void vusb_host_free(struct vusb_host *host)
{
	destroy_workqueue(host->queue);
	mempool_destroy(host->pool);
	kmem_cache_destroy(host->cache);
	bitmap_free(host->handles);
	kvfree(host);
}

static int vusb_root_create(struct vusb_host *host, unsigned int index)
{
	struct device *dev = &host->pdev->dev;
	struct vusb_root *root = &host->roots[index];
	struct usb_hcd *hcd;

	root->host = host;
	root->super = index;
	if (root->super)
		hcd = usb_create_shared_hcd(&vusb_hc_driver, dev, dev_name(dev),
					    host->roots[0].hcd);
	else
		hcd = usb_create_hcd(&vusb_hc_driver, dev, dev_name(dev));
	if (!hcd)
		return -ENOMEM;
	*(struct vusb_root **)hcd->hcd_priv = root;
	root->hcd = hcd;
	vusb_ports_init(root);
	return 0;
}

static int vusb_roots_add(struct vusb_host *host)
{
	int ret = vusb_root_create(host, 0);

	if (ret)
		return ret;
	ret = usb_add_hcd(host->roots[0].hcd, 0, 0);
	if (ret)
		goto put_first;
	ret = vusb_root_create(host, 1);
	if (ret)
		goto remove_first;
	ret = usb_add_hcd(host->roots[1].hcd, 0, 0);
	if (ret)
		goto put_second;
	return 0;
put_second:
	usb_put_hcd(host->roots[1].hcd);
remove_first:
	usb_remove_hcd(host->roots[0].hcd);
put_first:
	usb_put_hcd(host->roots[0].hcd);
	return ret;
}

static void vusb_roots_remove(struct vusb_host *host)
{
	usb_remove_hcd(host->roots[1].hcd);
	usb_remove_hcd(host->roots[0].hcd);
}

/* Balances vusb_root_create(). The channel's callbacks look at them until it's detached. */
static void vusb_roots_put(struct vusb_host *host)
{
	usb_put_hcd(host->roots[1].hcd);
	usb_put_hcd(host->roots[0].hcd);
}

/* usbcore keeps the first hcd there. */
static struct vusb_host *vusb_host_of(struct device *dev)
{
	return vusb_root(dev_get_drvdata(dev))->host;
}

/* Nothing is admitted and nothing is waited for any more. */
static void vusb_die(struct vusb_host *host)
{
	LIST_HEAD(done);

	spin_lock_irq(&host->lock);
	host->dead = true;
	vusb_urbs_end(host, NULL, -ESHUTDOWN, &done);
	spin_unlock_irq(&host->lock);
	vusb_give_back(host, &done);
}

/* Who waits for the end of a port's reset that the host is silent about sees that the port is empty. */
static void vusb_ports_disconnect(struct vusb_host *host)
{
	struct vusb_device *device;

	spin_lock_irq(&host->lock);
	for (device = host->devices; device < host->devices + VUSB_MAX_DEVICES; device++)
		if (device->port)
			vusb_port_disconnect(device->port);
	spin_unlock_irq(&host->lock);
}

static void vusb_say_bye(struct vusb_host *host)
{
	bool open;

	spin_lock_irq(&host->lock);
	open = host->state != VUSB_HOST_CLOSED;
	host->bye = true;
	spin_unlock_irq(&host->lock);
	vusb_channel_kick(host->channel);
	if (open)
		wait_for_completion_timeout(&host->bye_sent, msecs_to_jiffies(VUSB_BYE_BOUND));
}

/* The channel is gone: what it left. */
static void vusb_slots_clear(struct vusb_host *host)
{
	unsigned int slot;

	for_each_set_bit(slot, host->taken, VUSB_MAX_URBS)
		vusb_urb_free(host, host->slots[slot]);
}

static int vusb_probe(struct platform_device *pdev)
{
	struct vusb_host *host = vusb_host_alloc(pdev);
	int ret;

	if (!host)
		return -ENOMEM;
	host->channel = vusb_channel_create(path, &vusb_channel_ops, host);
	if (!host->channel) {
		ret = -ENOMEM;
		goto free;
	}
	ret = vusb_roots_add(host);
	if (ret)
		goto detach;
	ret = vusb_channel_start(host->channel);
	if (ret)
		goto remove_roots;
	vusb_debugfs_init(host);
	return 0;
remove_roots:
	vusb_die(host);
	vusb_roots_remove(host);
	vusb_roots_put(host);
detach:
	vusb_channel_detach(host->channel);
free:
	vusb_host_free(host);
	return ret;
}

/* G9 */
static VUSB_REMOVE_TYPE vusb_remove(struct platform_device *pdev)
{
	struct vusb_host *host = vusb_host_of(&pdev->dev);
	unsigned int i;

	debugfs_remove_recursive(host->debugfs);
	vusb_die(host);
	vusb_ports_disconnect(host);
	/* From here on none is queued: see vusb_device_remove(). */
	for (i = 0; i < VUSB_MAX_DEVICES; i++)
		cancel_work_sync(&host->devices[i].orderly);
	vusb_roots_remove(host);
	vusb_say_bye(host);
	/* One that is queued from here on sees that the host is dead, and leaves the channel alone. */
	cancel_delayed_work_sync(&host->watch);
	vusb_channel_detach(host->channel);
	cancel_delayed_work_sync(&host->watch);
	cancel_delayed_work_sync(&host->late_work);
	vusb_roots_put(host);
	vusb_slots_clear(host);
	vusb_host_free(host);
	return VUSB_REMOVE_RETURN;
}

/* The machine goes down: what still wants to be sent is, but nobody waits for the host. */
static void vusb_shutdown(struct platform_device *pdev)
{
	vusb_die(vusb_host_of(&pdev->dev));
}

static void vusb_set_accessible(struct vusb_host *host, bool accessible)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(host->roots); i++) {
		if (accessible)
			set_bit(HCD_FLAG_HW_ACCESSIBLE, &host->roots[i].hcd->flags);
		else
			clear_bit(HCD_FLAG_HW_ACCESSIBLE, &host->roots[i].hcd->flags);
	}
}

static int vusb_suspend(struct device *dev)
{
	vusb_set_accessible(vusb_host_of(dev), false);
	return 0;
}

static int vusb_resume(struct device *dev)
{
	struct vusb_host *host = vusb_host_of(dev);

	vusb_set_accessible(host, true);
	vusb_ports_changed(host);
	return 0;
}

static DEFINE_SIMPLE_DEV_PM_OPS(vusb_pm_ops, vusb_suspend, vusb_resume);

static struct platform_driver vusb_driver = {
	.probe = vusb_probe,
	.remove = vusb_remove,
	.shutdown = vusb_shutdown,
	.driver = {
		.name = VUSB_NAME,
		.pm = pm_sleep_ptr(&vusb_pm_ops),
	},
};

static int __init vusb_init(void)
{
	int ret;

	if (!ports || ports > VUSB_MAX_PORTS) {
		pr_err(VUSB_NAME ": ports=%u: 1 to %u are possible\n", ports, VUSB_MAX_PORTS);
		return -EINVAL;
	}
	if (usb_disabled())
		return -ENODEV;
	ret = platform_driver_register(&vusb_driver);
	if (ret)
		return ret;
	vusb_pdev = platform_device_register_simple(VUSB_NAME, 0, NULL, 0);
	if (IS_ERR(vusb_pdev)) {
		platform_driver_unregister(&vusb_driver);
		return PTR_ERR(vusb_pdev);
	}
	return 0;
}
module_init(vusb_init);

static void __exit vusb_exit(void)
{
	platform_device_unregister(vusb_pdev);
	platform_driver_unregister(&vusb_driver);
}
module_exit(vusb_exit);

MODULE_DESCRIPTION("USB host controller whose devices come from vusbd");
MODULE_LICENSE("GPL");
MODULE_VERSION(VUSB_VERSION);
