// SPDX-License-Identifier: GPL-2.0-only
/*
 * vusb_codec_test: golden and hostile records against vusb_codec.c, in the kernel that runs.
 *
 * insmod says "N passed" in the log, or fails. Debian's kernels have no KUnit.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>
#include <linux/slab.h>

#include "vusb_codec.c"
#include "test/vectors.h"

static unsigned int vusb_passed;
static unsigned int vusb_failed;

static void vusb_check(bool good, const char *what, const char *which)
{
	if (good) {
		vusb_passed++;
		return;
	}
	vusb_failed++;
	pr_err("FAILED: %s: %s\n", which, what);
}

static const struct vusb_vector *vusb_vector(const char *name)
{
	unsigned int i;

	for (i = 0; i < VUSB_VECTORS; i++)
		if (!strcmp(vusb_vectors[i].name, name))
			return &vusb_vectors[i];
	return &vusb_vectors[0];
}

/* The record that a vector begins with. */
static struct vusb_record vusb_record_of(const char *name)
{
	struct vusb_record record;

	memcpy(&record, vusb_vector(name)->bytes, sizeof(record));
	return record;
}

/* What a reader makes of bytes that come @piece at a time. */
struct vusb_outcome {
	int ret;
	unsigned int records;
	unsigned int ends;
	u8 payload[128];
	size_t count;
};

static void vusb_feed(struct vusb_reader *reader, const u8 *bytes, size_t count,
		      struct vusb_outcome *outcome)
{
	struct vusb_bytes in = { .at = bytes, .count = count }, piece;

	for (;;) {
		outcome->ret = vusb_reader_next(reader, &in, &piece);
		if (outcome->ret <= 0)
			return;
		outcome->records += outcome->ret == VUSB_STEP_RECORD;
		outcome->ends += outcome->ret == VUSB_STEP_END;
		if (outcome->ret != VUSB_STEP_PAYLOAD ||
		    outcome->count + piece.count > sizeof(outcome->payload))
			continue;
		memcpy(outcome->payload + outcome->count, piece.at, piece.count);
		outcome->count += piece.count;
	}
}

static void vusb_read(const u8 *bytes, size_t count, size_t piece, struct vusb_outcome *outcome)
{
	struct vusb_reader reader;
	size_t at;

	memset(outcome, 0, sizeof(*outcome));
	vusb_reader_init(&reader, VUSB_MAX_TRANSFER);
	for (at = 0; at < count && outcome->ret >= 0; at += piece)
		vusb_feed(&reader, bytes + at, min_t(size_t, piece, count - at), outcome);
}

static bool vusb_from_host(const struct vusb_vector *vector)
{
	switch (vector->type) {
	case VUSB_HELLO:
	case VUSB_ADDED:
	case VUSB_REMOVE:
	case VUSB_COMPLETE:
	case VUSB_RESET_DONE:
	case VUSB_QUIESCE:
	case VUSB_RESUME:
	case VUSB_PONG:
		return true;
	default:
		return false;
	}
}

/* Every record of the host, cut at every length; what only guests say is refused. */
static void vusb_test_cuts(void)
{
	const struct vusb_vector *vector;
	struct vusb_outcome outcome;
	size_t piece;

	for (vector = vusb_vectors; vector < vusb_vectors + VUSB_VECTORS; vector++) {
		bool good = true;

		for (piece = 1; piece <= vector->count; piece++) {
			vusb_read(vector->bytes, vector->count, piece, &outcome);
			if (!vusb_from_host(vector)) {
				good &= outcome.ret == -EPROTO && !outcome.records;
				continue;
			}
			good &= outcome.ret == VUSB_STEP_MORE && outcome.records == 1 &&
				outcome.ends == 1;
			good &= outcome.count == vector->size - VUSB_RECORD_SIZE &&
				!memcmp(outcome.payload, vector->bytes + VUSB_RECORD_SIZE,
					outcome.count);
		}
		vusb_check(good, "cut anywhere", vector->name);
	}
}

/* All of the host's in one buffer. */
static void vusb_test_many(void)
{
	const struct vusb_vector *vector;
	struct vusb_outcome outcome;
	unsigned int records = 0;
	size_t count = 0, piece;
	bool good = true;
	u8 *bytes;

	bytes = kmalloc(VUSB_VECTORS * 128, GFP_KERNEL);
	if (!bytes) {
		vusb_check(false, "memory", "many");
		return;
	}
	for (vector = vusb_vectors; vector < vusb_vectors + VUSB_VECTORS; vector++) {
		if (!vusb_from_host(vector))
			continue;
		memcpy(bytes + count, vector->bytes, vector->count);
		count += vector->count;
		records++;
	}
	for (piece = 1; piece <= count; piece += 7) {
		vusb_read(bytes, count, piece, &outcome);
		good &= outcome.ret == VUSB_STEP_MORE && outcome.records == records &&
			outcome.ends == records;
	}
	vusb_check(good, "in a row", "many");
	kfree(bytes);
}

static bool vusb_refused(const struct vusb_record *record)
{
	struct vusb_outcome outcome;

	vusb_read((const u8 *)record, sizeof(*record), sizeof(*record), &outcome);
	return outcome.ret == -EPROTO && !outcome.records;
}

static void vusb_test_sizes(void)
{
	static const u32 sizes[] = { 0, 1, 47, 49, 0x7fffffff, 0x80000000, 0xffffffff };
	struct vusb_record record;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		record = vusb_record_of("added");
		record.size = cpu_to_le32(sizes[i]);
		vusb_check(vusb_refused(&record), "size of a record that is all header", "sizes");
	}
	record = vusb_record_of("hello_host");
	record.size = cpu_to_le32(VUSB_RECORD_SIZE + VUSB_MAX_NAME + 1);
	vusb_check(vusb_refused(&record), "name too long", "sizes");
	record = vusb_record_of("complete_bulk_in");
	record.size = cpu_to_le32(VUSB_RECORD_SIZE + VUSB_MAX_TRANSFER +
				  VUSB_MAX_ISO_PACKETS * VUSB_PACKET_SIZE + 1);
	vusb_check(vusb_refused(&record), "more data than any URB has", "sizes");
}

static void vusb_test_types(void)
{
	static const u16 types[] = {
		0, VUSB_REMOVED, VUSB_SUBMIT, VUSB_CANCEL, VUSB_RESET, VUSB_QUIESCED, VUSB_RESUMED,
		VUSB_WAIT, VUSB_PING, VUSB_BYE, VUSB_BYE + 1, 0x8000, 0xffff,
	};
	static const u16 with_device[] = { VUSB_ADDED, VUSB_REMOVE, VUSB_COMPLETE, VUSB_RESET_DONE };
	struct vusb_record record;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(types); i++) {
		record = vusb_record_of("added");
		record.type = cpu_to_le16(types[i]);
		vusb_check(vusb_refused(&record), "no type of the host's", "types");
	}
	for (i = 0; i < ARRAY_SIZE(with_device); i++) {
		record = vusb_record_of("added");
		record.type = cpu_to_le16(with_device[i]);
		record.device = 0;
		vusb_check(vusb_refused(&record), "no device", "types");
	}
	record = vusb_record_of("remove");
	record.remove.removal = 2;
	vusb_check(vusb_refused(&record), "no removal", "types");
	for (i = 0; i < 256; i++) {
		record = vusb_record_of("added");
		record.added.speed = i;
		vusb_check(vusb_refused(&record) != vusb_speed_known(i), "speed", "types");
	}
}

static void vusb_test_hello(void)
{
	const struct vusb_vector *vector = vusb_vector("hello_host");
	struct vusb_record record = vusb_record_of("hello_host");
	struct vusb_grant grant;

	vusb_check(!vusb_parse_hello(&record, &grant), "taken", vector->name);
	vusb_check(grant.version == vector->field[0] && grant.features == vector->field[2] &&
		   grant.urbs == vector->field[3] && grant.bytes == vector->field[4] &&
		   grant.max_transfer == vector->field[5] && grant.wait == vector->field[6],
		   "fields", vector->name);

	record.hello.urbs = cpu_to_le32(0xffffffff);
	record.hello.bytes = cpu_to_le32(0xffffffff);
	record.hello.max_transfer = cpu_to_le32(0xffffffff);
	record.hello.features = cpu_to_le32(0xffffffff);
	record.hello.version = cpu_to_le16(0xffff);
	vusb_check(!vusb_parse_hello(&record, &grant) && grant.urbs == VUSB_MAX_URBS &&
		   grant.max_transfer == VUSB_MAX_TRANSFER && grant.features == 3 &&
		   grant.version == VUSB_ABI_VERSION, "bounded", vector->name);

	record = vusb_record_of("hello_host");
	record.hello.magic = 0;
	vusb_check(vusb_parse_hello(&record, &grant), "magic", vector->name);
	record = vusb_record_of("hello_host");
	record.hello.version = 0;
	vusb_check(vusb_parse_hello(&record, &grant), "version 0", vector->name);
	record = vusb_record_of("hello_host");
	record.hello.urbs = 0;
	vusb_check(vusb_parse_hello(&record, &grant), "no URBs", vector->name);
	record = vusb_record_of("hello_host");
	record.hello.bytes = cpu_to_le32(524287);
	vusb_check(vusb_parse_hello(&record, &grant), "less than a transfer", vector->name);
	record = vusb_record_of("hello_host");
	record.hello.max_transfer = cpu_to_le32(VUSB_MIN_TRANSFER - 1);
	vusb_check(vusb_parse_hello(&record, &grant), "less than a control transfer", vector->name);
}

static void vusb_test_complete(void)
{
	const struct vusb_vector *vector = vusb_vector("complete_bulk_in");
	struct vusb_record record = vusb_record_of("complete_bulk_in");
	struct vusb_asked asked = { .length = 5, .in = true };
	struct vusb_end end;

	vusb_check(!vusb_parse_complete(&record, &asked, &end), "taken", vector->name);
	vusb_check(end.status == vector->field[0] && end.actual_length == vector->field[1] &&
		   end.data == 5 && !end.table, "fields", vector->name);
	asked.length = 4;
	vusb_check(vusb_parse_complete(&record, &asked, &end), "more than asked", vector->name);
	asked.length = 5;
	asked.in = false;
	vusb_check(vusb_parse_complete(&record, &asked, &end), "data of an OUT", vector->name);
	asked.in = true;
	record.complete.actual_length = cpu_to_le32(4);
	vusb_check(vusb_parse_complete(&record, &asked, &end), "less than sent", vector->name);
	record.complete.actual_length = cpu_to_le32(0xffffffff);
	vusb_check(vusb_parse_complete(&record, &asked, &end), "4 GiB", vector->name);
	record = vusb_record_of("complete_bulk_in");
	record.complete.packets = cpu_to_le16(1);
	vusb_check(vusb_parse_complete(&record, &asked, &end), "packets of a bulk", vector->name);
	record = vusb_record_of("complete_bulk_in");
	record.complete.error_count = cpu_to_le16(1);
	vusb_check(vusb_parse_complete(&record, &asked, &end), "errors of none", vector->name);
}

/* Reads the table of complete_iso_in, @piece bytes at a time. */
static bool vusb_table_read(const u8 *bytes, const u32 *asked, size_t piece,
			    struct vusb_table *table)
{
	struct vusb_packet_end end;
	size_t at;

	vusb_table_init(table);
	for (at = 0; at < 2 * VUSB_PACKET_SIZE; at += piece) {
		struct vusb_bytes in = {
			.at = bytes + at,
			.count = min_t(size_t, piece, 2 * VUSB_PACKET_SIZE - at),
		};

		while (vusb_table_next(table, &in, &end))
			if (!vusb_packet_fits(&end, asked[end.index]))
				return false;
	}
	return true;
}

static void vusb_test_table(void)
{
	const struct vusb_vector *vector = vusb_vector("complete_iso_in");
	struct vusb_record record = vusb_record_of("complete_iso_in");
	struct vusb_asked asked = { .length = 192, .packets = 2, .in = true, .iso = true };
	static const u32 lengths[] = { 128, 64 }, short_lengths[] = { 2, 64 };
	const u8 *bytes = vector->bytes + VUSB_RECORD_SIZE;
	struct vusb_table table;
	struct vusb_end end;
	bool good = true;
	size_t piece;

	vusb_check(!vusb_parse_complete(&record, &asked, &end), "taken", vector->name);
	vusb_check(end.table == 24 && end.data == 3 && end.start_frame == vector->field[2] &&
		   end.error_count == vector->field[4], "fields", vector->name);
	for (piece = 1; piece <= 24; piece++)
		good &= vusb_table_read(bytes, lengths, piece, &table) &&
			vusb_table_adds_up(&table, &asked, &end);
	vusb_check(good, "table cut anywhere", vector->name);
	vusb_check(!vusb_table_read(bytes, short_lengths, 24, &table), "packet too long",
		   vector->name);
	end.actual_length = 4;
	vusb_table_read(bytes, lengths, 24, &table);
	vusb_check(!vusb_table_adds_up(&table, &asked, &end), "sum", vector->name);
	asked.packets = 3;
	vusb_check(vusb_parse_complete(&record, &asked, &end), "other packets", vector->name);
	asked.packets = 2;
	record.complete.error_count = cpu_to_le16(3);
	vusb_check(vusb_parse_complete(&record, &asked, &end), "more errors than packets",
		   vector->name);
}

static void vusb_test_status(void)
{
	static const int good[] = { 0, -EPIPE, -EREMOTEIO, -EOVERFLOW, -ESHUTDOWN, -ECONNRESET };
	static const int bad[] = { 1, 4096, -EINPROGRESS, -4096, INT_MIN, INT_MAX, -515 };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(good); i++)
		vusb_check(vusb_status(cpu_to_le32(good[i])) == good[i], "kept", "status");
	for (i = 0; i < ARRAY_SIZE(bad); i++)
		vusb_check(vusb_status(cpu_to_le32(bad[i])) == -EPROTO, "replaced", "status");
}

static void vusb_compare(const char *name, const void *bytes, size_t count)
{
	const struct vusb_vector *vector = vusb_vector(name);
	size_t built = min_t(size_t, vector->count, count);

	vusb_check(vector->count >= count && !memcmp(bytes, vector->bytes, built), "built", name);
}

static void vusb_test_submit(const char *name, const u8 *setup)
{
	const struct vusb_vector *vector = vusb_vector(name);
	struct vusb_request request = {
		.id = vector->id,
		.device = vector->device,
		.endpoint = vector->field[0],
		.transfer = vector->field[1],
		.flags = vector->field[2],
		.length = vector->field[3],
		.stream = vector->field[4],
		.packets = vector->field[5],
		.interval = vector->field[6],
		.setup = setup,
		.payload = vector->size - VUSB_RECORD_SIZE,
	};
	struct vusb_record record;

	vusb_check(vusb_build_submit(&record, &request) == vector->count, "size", name);
	vusb_compare(name, &record, sizeof(record));
}

static void vusb_test_build(void)
{
	static const u8 setup[] = { 0x80, 0x06, 0x00, 0x01, 0x00, 0x00, 0x12, 0x00 };
	static const struct vusb_greeting greeting = {
		.ports = 8, .features = 3, .wait = 250000, .name = "vusb_hcd 1.0",
	};
	u8 buffer[VUSB_RECORD_SIZE + VUSB_MAX_NAME];

	vusb_compare("hello_guest", buffer, vusb_build_hello(buffer, &greeting));
	vusb_compare("removed", buffer, vusb_build_plain(buffer, VUSB_REMOVED, 7, 0));
	vusb_compare("cancel", buffer, vusb_build_plain(buffer, VUSB_CANCEL, 7, 0x20006));
	vusb_compare("wait", buffer, vusb_build_wait(buffer, 500, VUSB_WAIT_ONE_AT_A_TIME));
	vusb_test_submit("submit_control", setup);
	vusb_test_submit("submit_bulk_out", NULL);
	vusb_test_submit("submit_iso_in", NULL);
}

static int __init vusb_codec_test_init(void)
{
	vusb_test_cuts();
	vusb_test_many();
	vusb_test_sizes();
	vusb_test_types();
	vusb_test_hello();
	vusb_test_complete();
	vusb_test_table();
	vusb_test_status();
	vusb_test_build();
	pr_info("%u passed, %u failed\n", vusb_passed, vusb_failed);
	return vusb_failed ? -EINVAL : 0;
}
module_init(vusb_codec_test_init);

static void __exit vusb_codec_test_exit(void)
{
}
module_exit(vusb_codec_test_exit);

MODULE_DESCRIPTION("Self-test of vusb_hcd's records");
MODULE_LICENSE("GPL");
