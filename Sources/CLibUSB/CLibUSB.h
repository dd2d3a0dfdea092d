/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
#include <libusb.h>

/* What Swift can't import from libusb.h. It is here and not in CVUSBShims, so that the fronts, which use that one,
 * see nothing of libusb. */

/* A flexible array member. */
static inline struct libusb_iso_packet_descriptor *CLibUSB_iso_packets(struct libusb_transfer *transfer)
{
	return transfer->iso_packet_desc;
}

/* libusb_set_option is variadic. Holds for the contexts that are made afterwards. */
static inline int CLibUSB_disable_discovery(void)
{
	return libusb_set_option(NULL, LIBUSB_OPTION_NO_DEVICE_DISCOVERY);
}

/* Variadic, too. For tests: libusb says on the thread in question what it does. */
static inline int CLibUSB_log_all(struct libusb_context *context)
{
	return libusb_set_option(context, LIBUSB_OPTION_LOG_LEVEL, LIBUSB_LOG_LEVEL_DEBUG);
}
