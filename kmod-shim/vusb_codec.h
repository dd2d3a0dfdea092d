/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Records of uapi/vusb_abi.h: taking apart what the host says, putting together what the guest
 * says. Pure functions without state of their own, which user space compiles too, for the fuzzer.
 *
 * Nothing that the host says is believed: what comes out of here is in range.
 */
#ifndef VUSB_CODEC_H
#define VUSB_CODEC_H

#ifdef __KERNEL__
#include <linux/types.h>
#else
#include "test/user.h"
#endif

#include "uapi/vusb_abi.h"

#define VUSB_RECORD_SIZE	sizeof(struct vusb_record)
#define VUSB_PACKET_SIZE	sizeof(struct vusb_iso_packet)

/* The least that a host must grant; a control transfer's data stage may have 64 KiB. */
#define VUSB_MIN_TRANSFER	65536

/*
 * A stream of records that may be cut anywhere. Protocol of use: call vusb_reader_next() until it
 * says VUSB_STEP_MORE, then again with the next bytes.
 */
struct vusb_reader {
	struct vusb_record record;	/* whole from VUSB_STEP_RECORD to VUSB_STEP_END */
	u32 have;			/* bytes of it that have come */
	u32 payload;			/* bytes of its payload that haven't */
	u32 padding;			/* bytes behind it that haven't */
	u32 max_payload;		/* of VUSB_COMPLETE */
};

enum vusb_step {
	VUSB_STEP_MORE = 0,	/* all bytes are used */
	VUSB_STEP_RECORD,	/* reader->record is there */
	VUSB_STEP_PAYLOAD,	/* a piece of its payload */
	VUSB_STEP_END,		/* all of its payload has come */
};

struct vusb_bytes {
	const u8 *at;
	size_t count;
};

void vusb_reader_init(struct vusb_reader *reader, u32 max_transfer);
int vusb_reader_next(struct vusb_reader *reader, struct vusb_bytes *in, struct vusb_bytes *piece);

/* What the host grants, in range. */
struct vusb_grant {
	u32 version;
	u32 features;
	u32 urbs;
	u32 bytes;
	u32 max_transfer;
	u32 wait;		/* microseconds */
};

int vusb_parse_hello(const struct vusb_record *record, struct vusb_grant *grant);

/* What was asked for by a URB: a completion may not say more. */
struct vusb_asked {
	u32 length;
	u16 packets;
	bool in;
	bool iso;
};

struct vusb_end {
	int status;
	u32 actual_length;
	u32 start_frame;
	u32 error_count;
	u32 table;		/* bytes of the packet table in front of the data */
	u32 data;		/* bytes of data */
};

int vusb_parse_complete(const struct vusb_record *record, const struct vusb_asked *asked,
			struct vusb_end *end);

/* A packet table that may be cut anywhere, too. */
struct vusb_table {
	struct vusb_iso_packet packet;
	u32 have;		/* bytes of it */
	u32 index;		/* of the packet that comes next */
	u32 sum;		/* of the actual lengths */
};

struct vusb_packet_end {
	u32 index;
	u32 actual_length;
	int status;
};

void vusb_table_init(struct vusb_table *table);
bool vusb_table_next(struct vusb_table *table, struct vusb_bytes *in, struct vusb_packet_end *end);
bool vusb_packet_fits(const struct vusb_packet_end *end, u32 asked);
bool vusb_table_adds_up(const struct vusb_table *table, const struct vusb_asked *asked,
			const struct vusb_end *end);

int vusb_status(__le32 status);

/* The guest's side. All return the bytes that the record takes in the stream, padding included. */
struct vusb_greeting {
	u32 ports;
	u32 features;
	u32 wait;		/* microseconds */
	const char *name;
};

size_t vusb_build_hello(void *buffer, const struct vusb_greeting *greeting);
size_t vusb_build_plain(void *buffer, enum vusb_type type, u16 device, u64 id);
size_t vusb_build_wait(void *buffer, u32 wait, u32 flags);

struct vusb_request {
	u64 id;
	u16 device;
	u8 endpoint;
	u8 transfer;
	u16 flags;
	u16 stream;
	u16 packets;
	u32 length;
	u32 interval;
	const u8 *setup;	/* of a control transfer */
	u32 payload;		/* bytes that follow */
};

size_t vusb_build_submit(struct vusb_record *record, const struct vusb_request *request);

#endif
