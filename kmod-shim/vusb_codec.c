// SPDX-License-Identifier: GPL-2.0-only
/*
 * Records of uapi/vusb_abi.h, see vusb_codec.h.
 */
#ifdef __KERNEL__
#include <linux/build_bug.h>
#include <linux/errno.h>
#include <linux/kernel.h>
#include <linux/minmax.h>
#include <linux/string.h>
#endif

#include "vusb_codec.h"

static_assert(sizeof(struct vusb_record) == 48);
static_assert(sizeof(struct vusb_hello) == 32);
static_assert(sizeof(struct vusb_added) == 32);
static_assert(sizeof(struct vusb_remove) == 32);
static_assert(sizeof(struct vusb_submit) == 32);
static_assert(sizeof(struct vusb_complete) == 32);
static_assert(sizeof(struct vusb_result) == 32);
static_assert(sizeof(struct vusb_wait) == 32);
static_assert(sizeof(struct vusb_iso_packet) == 12);

/* Bytes of payload that a record may have at most, or -EPROTO for one that no host says. */
static int vusb_payload_limit(const struct vusb_reader *reader)
{
	const struct vusb_record *record = &reader->record;

	switch (le16_to_cpu(record->type)) {
	case VUSB_HELLO:
		return VUSB_MAX_NAME;
	case VUSB_COMPLETE:
		return record->device ? (int)reader->max_payload : -EPROTO;
	case VUSB_ADDED:
	case VUSB_REMOVE:
	case VUSB_RESET_DONE:
		return record->device ? 0 : -EPROTO;
	case VUSB_QUIESCE:
	case VUSB_RESUME:
	case VUSB_PONG:
		return 0;
	default:
		return -EPROTO;
	}
}

static bool vusb_speed_known(u8 speed)
{
	switch (speed) {
	case VUSB_SPEED_LOW:
	case VUSB_SPEED_FULL:
	case VUSB_SPEED_HIGH:
	case VUSB_SPEED_SUPER:
	case VUSB_SPEED_SUPER_PLUS:
		return true;
	default:
		return false;
	}
}

static int vusb_check_record(struct vusb_reader *reader)
{
	const struct vusb_record *record = &reader->record;
	u32 size = le32_to_cpu(record->size);
	int limit = vusb_payload_limit(reader);

	if (limit < 0)
		return limit;
	if (size < VUSB_RECORD_SIZE || size - VUSB_RECORD_SIZE > (u32)limit)
		return -EPROTO;
	if (record->type == cpu_to_le16(VUSB_ADDED) && !vusb_speed_known(record->added.speed))
		return -EPROTO;
	if (record->type == cpu_to_le16(VUSB_REMOVE) && record->remove.removal > VUSB_REMOVE_NOW)
		return -EPROTO;

	reader->payload = size - VUSB_RECORD_SIZE;
	reader->padding = ALIGN(size, VUSB_ALIGN) - size;
	return 0;
}

/**
 * vusb_reader_init() - begin a stream
 * @reader: its state
 * @max_transfer: bytes of data that a completion may have at most
 */
void vusb_reader_init(struct vusb_reader *reader, u32 max_transfer)
{
	memset(reader, 0, sizeof(*reader));
	reader->max_payload = min_t(u32, max_transfer, VUSB_MAX_TRANSFER) +
			      VUSB_MAX_ISO_PACKETS * VUSB_PACKET_SIZE;
}

static void vusb_skip(struct vusb_bytes *in, size_t count)
{
	in->at += count;
	in->count -= count;
}

/* Moves bytes into something of @size, of which there are *@have already; true when it's whole. */
static bool vusb_gather(void *whole, u32 size, u32 *have, struct vusb_bytes *in)
{
	size_t count = min_t(size_t, size - *have, in->count);

	memcpy((u8 *)whole + *have, in->at, count);
	vusb_skip(in, count);
	*have += count;
	return *have == size;
}

/**
 * vusb_reader_next() - take the next step in a stream
 * @reader: its state
 * @in: bytes that have come; those that are used are taken away
 * @piece: for VUSB_STEP_PAYLOAD, the part of @in that is payload
 *
 * Return: an enum vusb_step; -EPROTO when the host broke a rule, the stream is of no use then.
 */
int vusb_reader_next(struct vusb_reader *reader, struct vusb_bytes *in, struct vusb_bytes *piece)
{
	bool begun = reader->have == VUSB_RECORD_SIZE;
	size_t count;
	int ret;

	if (!begun) {
		count = min_t(size_t, reader->padding, in->count);
		vusb_skip(in, count);
		reader->padding -= count;
		if (!in->count)
			return VUSB_STEP_MORE;
		if (!vusb_gather(&reader->record, VUSB_RECORD_SIZE, &reader->have, in))
			return VUSB_STEP_MORE;
		ret = vusb_check_record(reader);
		return ret ? ret : VUSB_STEP_RECORD;
	}

	if (!reader->payload) {
		reader->have = 0;
		return VUSB_STEP_END;
	}
	if (!in->count)
		return VUSB_STEP_MORE;
	piece->at = in->at;
	piece->count = min_t(size_t, reader->payload, in->count);
	vusb_skip(in, piece->count);
	reader->payload -= piece->count;
	return VUSB_STEP_PAYLOAD;
}

/**
 * vusb_parse_hello() - what a host's hello grants
 * @record: VUSB_HELLO
 * @grant: filled in, bounded by what this side can use
 *
 * Return: 0, -EPROTO for one that is none or grants too little to work with
 */
int vusb_parse_hello(const struct vusb_record *record, struct vusb_grant *grant)
{
	const struct vusb_hello *hello = &record->hello;

	if (record->type != cpu_to_le16(VUSB_HELLO) ||
	    hello->magic != cpu_to_le32(VUSB_ABI_MAGIC))
		return -EPROTO;

	grant->version = min_t(u32, le16_to_cpu(hello->version), VUSB_ABI_VERSION);
	grant->features = le32_to_cpu(hello->features) & (VUSB_FEATURE_STREAMS | VUSB_FEATURE_ISO);
	grant->urbs = min_t(u32, le32_to_cpu(hello->urbs), VUSB_MAX_URBS);
	grant->bytes = le32_to_cpu(hello->bytes);
	grant->max_transfer = min_t(u32, le32_to_cpu(hello->max_transfer), VUSB_MAX_TRANSFER);
	grant->wait = le32_to_cpu(hello->wait);

	if (!grant->version || !grant->urbs)
		return -EPROTO;
	if (grant->max_transfer < VUSB_MIN_TRANSFER || grant->bytes < grant->max_transfer)
		return -EPROTO;
	return 0;
}

/**
 * vusb_status() - a host's status as one that drivers may see
 * @status: as it came
 *
 * Return: 0 or the errno of a URB; -EPROTO for one that no URB ends with
 */
int vusb_status(__le32 status)
{
	int value = (int)le32_to_cpu(status);

	switch (value) {
	case 0:
	case -ENOENT:
	case -EIO:
	case -ENOMEM:
	case -ENODEV:
	case -EXDEV:
	case -EINVAL:
	case -ENOSPC:
	case -EPIPE:
	case -ETIME:
	case -ENOSR:
	case -ECOMM:
	case -EPROTO:
	case -EOVERFLOW:
	case -EILSEQ:
	case -EMSGSIZE:
	case -ECONNRESET:
	case -ESHUTDOWN:
	case -ETIMEDOUT:
	case -EREMOTEIO:
		return value;
	default:
		return -EPROTO;
	}
}

/**
 * vusb_parse_complete() - how a URB ended
 * @record: VUSB_COMPLETE
 * @asked: what the URB asked for
 * @end: filled in
 *
 * Return: 0, -EPROTO for what can't be the end of that URB
 */
int vusb_parse_complete(const struct vusb_record *record, const struct vusb_asked *asked,
			struct vusb_end *end)
{
	const struct vusb_complete *complete = &record->complete;
	u32 payload = le32_to_cpu(record->size) - VUSB_RECORD_SIZE;

	end->status = vusb_status(complete->status);
	end->actual_length = le32_to_cpu(complete->actual_length);
	end->start_frame = le32_to_cpu(complete->start_frame);
	end->error_count = le16_to_cpu(complete->error_count);
	end->table = asked->packets * VUSB_PACKET_SIZE;
	end->data = asked->in ? end->actual_length : 0;

	if (end->actual_length > asked->length)
		return -EPROTO;
	if (le16_to_cpu(complete->packets) != asked->packets || end->error_count > asked->packets)
		return -EPROTO;
	if (payload != end->table + end->data)
		return -EPROTO;
	return 0;
}

/**
 * vusb_table_init() - begin a packet table
 * @table: its state
 */
void vusb_table_init(struct vusb_table *table)
{
	memset(table, 0, sizeof(*table));
}

/**
 * vusb_table_next() - take the next packet of a table
 * @table: its state
 * @in: bytes of the table that have come; those that are used are taken away
 * @end: filled in
 *
 * Return: whether a packet is whole; the caller has to check that it fits
 */
bool vusb_table_next(struct vusb_table *table, struct vusb_bytes *in, struct vusb_packet_end *end)
{
	if (!vusb_gather(&table->packet, VUSB_PACKET_SIZE, &table->have, in))
		return false;

	table->have = 0;
	end->index = table->index++;
	end->actual_length = le32_to_cpu(table->packet.actual_length);
	end->status = vusb_status(table->packet.status);
	/* Each that fits is below VUSB_MAX_TRANSFER, and there are few: no overflow. */
	table->sum += end->actual_length;
	return true;
}

/**
 * vusb_packet_fits() - check a packet's end
 * @end: from vusb_table_next()
 * @asked: bytes that were asked for
 *
 * Return: whether there aren't more
 */
bool vusb_packet_fits(const struct vusb_packet_end *end, u32 asked)
{
	return end->actual_length <= asked;
}

/**
 * vusb_table_adds_up() - check a whole table
 * @table: its state after the last packet
 * @asked: what the URB asked for
 * @end: its end
 *
 * Return: whether the packets' lengths are that of the data
 */
bool vusb_table_adds_up(const struct vusb_table *table, const struct vusb_asked *asked,
			const struct vusb_end *end)
{
	return table->index == asked->packets && (!asked->in || table->sum == end->actual_length);
}

static size_t vusb_begin(struct vusb_record *record, enum vusb_type type, u32 payload)
{
	u32 size = VUSB_RECORD_SIZE + payload;

	memset(record, 0, sizeof(*record));
	record->size = cpu_to_le32(size);
	record->type = cpu_to_le16(type);
	return ALIGN(size, VUSB_ALIGN);
}

/**
 * vusb_build_hello() - VUSB_HELLO
 * @buffer: room for a record and VUSB_MAX_NAME bytes
 * @greeting: what is in it
 *
 * Return: bytes built
 */
size_t vusb_build_hello(void *buffer, const struct vusb_greeting *greeting)
{
	struct vusb_record *record = buffer;
	u32 name = min_t(size_t, strlen(greeting->name), VUSB_MAX_NAME);
	size_t size = vusb_begin(record, VUSB_HELLO, name);

	record->hello.magic = cpu_to_le32(VUSB_ABI_MAGIC);
	record->hello.version = cpu_to_le16(VUSB_ABI_VERSION);
	record->hello.ports = cpu_to_le16(greeting->ports);
	record->hello.features = cpu_to_le32(greeting->features);
	record->hello.max_transfer = cpu_to_le32(VUSB_MAX_TRANSFER);
	record->hello.wait = cpu_to_le32(greeting->wait);
	memset(record + 1, 0, size - VUSB_RECORD_SIZE);
	memcpy(record + 1, greeting->name, name);
	return size;
}

/**
 * vusb_build_plain() - a record that is all header
 * @buffer: room for a record
 * @type: what it says
 * @device: about whom
 * @id: and what
 *
 * Return: bytes built
 */
size_t vusb_build_plain(void *buffer, enum vusb_type type, u16 device, u64 id)
{
	struct vusb_record *record = buffer;
	size_t size = vusb_begin(record, type, 0);

	record->device = cpu_to_le16(device);
	record->id = cpu_to_le64(id);
	return size;
}

/**
 * vusb_build_wait() - VUSB_WAIT
 * @buffer: room for a record
 * @wait: microseconds
 * @flags: VUSB_WAIT_*
 *
 * Return: bytes built
 */
size_t vusb_build_wait(void *buffer, u32 wait, u32 flags)
{
	struct vusb_record *record = buffer;
	size_t size = vusb_begin(record, VUSB_WAIT, 0);

	record->wait.wait = cpu_to_le32(wait);
	record->wait.flags = cpu_to_le32(flags);
	return size;
}

/**
 * vusb_build_submit() - VUSB_SUBMIT, without its payload
 * @record: where to
 * @request: what is in it
 *
 * Return: bytes of the record with its payload and padding
 */
size_t vusb_build_submit(struct vusb_record *record, const struct vusb_request *request)
{
	struct vusb_submit *submit = &record->submit;
	size_t size = vusb_begin(record, VUSB_SUBMIT, request->payload);

	record->device = cpu_to_le16(request->device);
	record->id = cpu_to_le64(request->id);
	submit->endpoint = request->endpoint;
	submit->transfer = request->transfer;
	submit->flags = cpu_to_le16(request->flags);
	submit->length = cpu_to_le32(request->length);
	submit->stream = cpu_to_le16(request->stream);
	submit->packets = cpu_to_le16(request->packets);
	submit->interval = cpu_to_le32(request->interval);
	if (request->setup)
		memcpy(submit->setup, request->setup, sizeof(submit->setup));
	return size;
}
