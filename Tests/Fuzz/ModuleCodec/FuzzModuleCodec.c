// SPDX-License-Identifier: GPL-2.0-only
/*
 * FuzzModuleCodec: a hostile host against the records of the guest's module (kmod-shim/vusb_codec.c).
 *
 * The first byte says how long the pieces are in which the rest comes. Four URBs are in flight, in the slots 0 to 3: bulk
 * IN, bulk OUT, isochronous IN and OUT. A completion is read as vusb_rx.c does it, to buffers of exactly the length that
 * was asked for, so that the address sanitizer sees a byte too many.
 */
#include <stdlib.h>

#include "vusb_codec.c"

#define SLOTS	4
#define PACKETS	3

struct slot {
	struct vusb_asked asked;
	u32 packets[PACKETS];	/* asked for */
	u32 actual[PACKETS];
	u8 *data;
};

static const struct slot slots[SLOTS] = {
	{ .asked = { .length = 700, .in = true } },
	{ .asked = { .length = 700 } },
	{ .asked = { .length = 96, .packets = PACKETS, .in = true, .iso = true }, .packets = { 64, 0, 32 } },
	{ .asked = { .length = 96, .packets = PACKETS, .iso = true }, .packets = { 32, 32, 32 } },
};

struct completion {
	struct slot slot;
	struct vusb_end end;
	struct vusb_table table;
	u32 table_left;
	u32 done;
	bool begun;
};

/* A hello and the packet of a table come out in range, or not at all. */
static void must(bool condition)
{
	if (!condition)
		abort();
}

static int begin(const struct vusb_record *record, struct completion *completion)
{
	unsigned int number = VUSB_ID_SLOT(le64_to_cpu(record->id));

	if (number >= SLOTS)
		return -EPROTO;
	completion->slot = slots[number];
	if (vusb_parse_complete(record, &completion->slot.asked, &completion->end))
		return -EPROTO;
	must(completion->end.status <= 0 && completion->end.status > -4096);
	must(completion->end.actual_length <= completion->slot.asked.length);
	vusb_table_init(&completion->table);
	completion->table_left = completion->end.table;
	completion->done = 0;
	completion->begun = true;
	completion->slot.data = malloc(completion->slot.asked.length);
	return 0;
}

static int read_table(struct completion *completion, struct vusb_bytes *piece)
{
	struct vusb_bytes in = { piece->at, min_t(size_t, piece->count, completion->table_left) };
	struct vusb_packet_end end;

	piece->at += in.count;
	piece->count -= in.count;
	completion->table_left -= in.count;
	while (in.count && vusb_table_next(&completion->table, &in, &end)) {
		must(end.index < PACKETS);
		if (!vusb_packet_fits(&end, completion->slot.packets[end.index]))
			return -EPROTO;
		completion->slot.actual[end.index] = end.actual_length;
	}
	if (!completion->table_left &&
	    !vusb_table_adds_up(&completion->table, &completion->slot.asked, &completion->end))
		return -EPROTO;
	return 0;
}

static int payload(struct completion *completion, struct vusb_bytes piece)
{
	if (completion->table_left && read_table(completion, &piece))
		return -EPROTO;
	if (piece.count)
		memcpy(completion->slot.data + completion->done, piece.at, piece.count);
	completion->done += piece.count;
	return 0;
}

static void finish(struct completion *completion)
{
	u32 sum = 0;
	int i;

	must(!completion->table_left && completion->done == completion->end.data);
	for (i = 0; i < PACKETS; i++)
		sum += completion->slot.actual[i];
	if (completion->slot.asked.iso && completion->slot.asked.in)
		must(sum == completion->done);
	free(completion->slot.data);
	completion->begun = false;
}

static int step(const struct vusb_reader *reader, int what, const struct vusb_bytes *piece,
		struct completion *completion)
{
	struct vusb_grant grant;

	if (reader->record.type == cpu_to_le16(VUSB_HELLO) && what == VUSB_STEP_END &&
	    !vusb_parse_hello(&reader->record, &grant)) {
		must(grant.urbs && grant.urbs <= VUSB_MAX_URBS && grant.bytes >= grant.max_transfer);
		must(grant.max_transfer <= VUSB_MAX_TRANSFER && grant.version == VUSB_ABI_VERSION);
	}
	if (reader->record.type != cpu_to_le16(VUSB_COMPLETE))
		return 0;
	switch (what) {
	case VUSB_STEP_RECORD:
		return begin(&reader->record, completion);
	case VUSB_STEP_PAYLOAD:
		return payload(completion, *piece);
	default:
		finish(completion);
		return 0;
	}
}

int LLVMFuzzerTestOneInput(const u8 *bytes, size_t count)
{
	struct completion completion = { .begun = false };
	struct vusb_bytes in, piece;
	struct vusb_reader reader;
	size_t length;
	int what = 0;

	if (!count)
		return 0;
	length = bytes[0] ? bytes[0] : count;
	vusb_reader_init(&reader, VUSB_MAX_TRANSFER);
	for (bytes++, count--; count && what >= 0; bytes += length, count -= length) {
		length = min_t(size_t, length, count);
		/* A copy of its own, so that a read beyond it is seen. */
		u8 *copy = malloc(length);

		memcpy(copy, bytes, length);
		in.at = copy;
		in.count = length;
		do {
			what = vusb_reader_next(&reader, &in, &piece);
			if (what > 0 && step(&reader, what, &piece, &completion))
				what = -EPROTO;
		} while (what > 0);
		free(copy);
	}
	if (completion.begun)
		free(completion.slot.data);
	return 0;
}
