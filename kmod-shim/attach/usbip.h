/* SPDX-License-Identifier: Apache-2.0 */
/*
 * USB/IP 1.1.1 on the wire: all numbers are big-endian.
 */
#ifndef VUSB_ATTACH_USBIP_H
#define VUSB_ATTACH_USBIP_H

#include <stdint.h>

enum {
	USBIP_VERSION = 0x0111,
	USBIP_REQUEST_LIST = 0x8005,
	USBIP_REPLY_LIST = 0x0005,
	USBIP_REQUEST_IMPORT = 0x8003,
	USBIP_REPLY_IMPORT = 0x0003,
	USBIP_STATUS_BUSY = 2,
	USBIP_STATUS_NONE = 4,
	USBIP_COMMAND_SUBMIT = 1,
	USBIP_NO_PACKETS = -1,
};

/* Bytes. */
enum {
	USBIP_OPERATION = 8,
	USBIP_PATH = 256,
	USBIP_BUSID = 32,
	USBIP_RECORD = 312,
	USBIP_HEADER = 48,
	USBIP_PACKET = 16,
};

static inline uint32_t word(const unsigned char *bytes)
{
	return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static inline uint32_t half(const unsigned char *bytes)
{
	return (uint32_t)bytes[0] << 8 | bytes[1];
}

static inline void put_half(unsigned char *bytes, uint32_t value)
{
	bytes[0] = (unsigned char)(value >> 8);
	bytes[1] = (unsigned char)value;
}

#endif
