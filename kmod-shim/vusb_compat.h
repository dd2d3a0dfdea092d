/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The differences between the kernels that this is built for, all in one place.
 */
#ifndef VUSB_COMPAT_H
#define VUSB_COMPAT_H

#include <linux/uio.h>
#include <linux/version.h>

#ifndef ITER_DEST
#define ITER_DEST	READ
#define ITER_SOURCE	WRITE
#endif

/*
 * platform_driver's remove returned an int, of which nothing came, until 6.11; remove_new is the
 * same without, since 6.3 and until 6.13.
 */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 11, 0)
#define VUSB_REMOVE_TYPE	void
#define VUSB_REMOVE_RETURN
#else
#define VUSB_REMOVE_TYPE	int
#define VUSB_REMOVE_RETURN	0
#endif

/* Since 6.8 9p reads through netfs, which goes on until the end of the file, wherever that is. */
#define VUSB_9P_READS_ALL	(LINUX_VERSION_CODE >= KERNEL_VERSION(6, 8, 0))

#endif
