/* SPDX-License-Identifier: Apache-2.0
 *
 * client PORT|PATH [BUSID [AUTHORITY CERTIFICATE KEY]]: a client of USB/IP that has a Gadget Zero or a disk (bulk endpoints
 * 1 IN and 2 OUT), on loopback or at a Unix socket, by TLS where there are files for it; without BUSID one of the echo
 * server.
 *
 * For each line `echo|control|in|out|read|write LENGTH DEPTH SECONDS` that it reads it measures once, and prints one line of
 * JSON: how many, the seconds, the bytes, the median and the 99th hundredth in microseconds, its own seconds of processor
 * time. `read` and `write` are the disk's: three transfers one after the other, as `usb-storage` does it. It receives a
 * header, then the data behind it, as `vhci-hcd` does, and has one thread.
 */
#include <arpa/inet.h>
#include <endian.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { HEADER = 48, LONGEST = 1 << 20, DEEPEST = 32, SAMPLES = 1 << 18, DISK = 32 << 20 };

static char payload[HEADER + LONGEST], answer[LONGEST];
static double samples[SAMPLES];
static uint32_t seqnum, devid;
static int fd;
static SSL *tls;

/* What is measured: `name` is one of those above. */
struct kind {
	char name[16];
	uint32_t length;
	int depth;
	double seconds;
};

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1e6 + time.tv_nsec / 1e3;
}

static double spent(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void dial(const char *place)
{
	struct sockaddr_in internet = { .sin_family = AF_INET, .sin_port = htons(atoi(place)) };
	struct sockaddr_un local = { .sun_family = AF_UNIX };
	int is_local = *place == '/', one = 1;

	internet.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	strncpy(local.sun_path, place, sizeof(local.sun_path) - 1);
	fd = socket(is_local ? AF_UNIX : AF_INET, SOCK_STREAM, 0);
	if (connect(fd, is_local ? (struct sockaddr *)&local : (struct sockaddr *)&internet,
		    is_local ? sizeof(local) : sizeof(internet)))
		fail(place);
	if (!is_local)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

static void secure(char **files)
{
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());

	SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
	if (SSL_CTX_load_verify_locations(context, files[0], NULL) != 1 ||
	    SSL_CTX_use_certificate_file(context, files[1], SSL_FILETYPE_PEM) != 1 ||
	    SSL_CTX_use_PrivateKey_file(context, files[2], SSL_FILETYPE_PEM) != 1)
		exit(fprintf(stderr, "client: files of TLS\n"));
	tls = SSL_new(context);
	SSL_set_fd(tls, fd);
	if (SSL_connect(tls) != 1)
		exit(fprintf(stderr, "client: no TLS\n"));
}

static void put(const void *bytes, size_t count)
{
	while (count) {
		ssize_t sent = tls ? SSL_write(tls, bytes, count) : send(fd, bytes, count, MSG_NOSIGNAL);

		if (sent <= 0)
			fail("send");
		bytes = (const char *)bytes + sent;
		count -= sent;
	}
}

static void get(void *bytes, size_t count)
{
	while (count) {
		ssize_t more = tls ? SSL_read(tls, bytes, count) : recv(fd, bytes, count, 0);

		if (more <= 0)
			fail("recv");
		bytes = (char *)bytes + more;
		count -= more;
	}
}

static uint32_t word(const char *bytes)
{
	uint32_t value;

	memcpy(&value, bytes, 4);
	return be32toh(value);
}

static void set(char *bytes, uint32_t value)
{
	value = htobe32(value);
	memcpy(bytes, &value, 4);
}

static void import(const char *busid)
{
	char request[40] = { 0x01, 0x11, (char)0x80, 0x03 }, reply[320];

	strncpy(request + 8, busid, 31);
	put(request, sizeof(request));
	get(reply, 8);
	if (word(reply + 4))
		exit(fprintf(stderr, "client: import of %s: status %u\n", busid, word(reply + 4)));
	get(reply + 8, 312);
	devid = word(reply + 8 + 288) << 16 | word(reply + 8 + 292);
}

static int is(const struct kind *kind, const char *name)
{
	return !strcmp(kind->name, name);
}

static void submit(int endpoint, int in, const char *setup, uint32_t length)
{
	memset(payload, 0, HEADER);
	set(payload, 1);
	set(payload + 4, ++seqnum);
	set(payload + 8, devid);
	set(payload + 12, in);
	set(payload + 16, endpoint);
	set(payload + 24, length);
	set(payload + 32, 0xffffffff);
	if (setup)
		memcpy(payload + 40, setup, 8);
	put(payload, HEADER + (in ? 0 : length));
}

static void reap(int in, uint32_t length)
{
	char header[HEADER];

	get(header, HEADER);
	if (word(header) != 3 || word(header + 20) || word(header + 24) != length)
		exit(fprintf(stderr, "client: status %d, %u bytes\n", (int)word(header + 20), word(header + 24)));
	if (in)
		get(answer, length);
}

/* One command of the bulk-only transport, the next one of those in order. */
static void command(int is_read, uint32_t length)
{
	enum { WRAPPER = 31, STATUS = 13, BLOCK = 512 };
	static uint32_t next;
	uint32_t blocks = length / BLOCK, first, little = htole32(length);
	char *wrapper = payload + HEADER;

	if (next + blocks > DISK / BLOCK)
		next = 0;
	first = htobe32(next);
	next += blocks;
	memcpy(wrapper, "USBC", 4);
	memset(wrapper + 4, 0, WRAPPER - 4);
	memcpy(wrapper + 8, &little, 4);
	wrapper[12] = is_read ? (char)0x80 : 0;
	wrapper[14] = 10;
	wrapper[15] = is_read ? 0x28 : 0x2a;
	memcpy(wrapper + 17, &first, 4);
	wrapper[22] = blocks >> 8;
	wrapper[23] = blocks;
	submit(2, 0, NULL, WRAPPER);
	reap(0, WRAPPER);
	submit(is_read ? 1 : 2, is_read, NULL, length);
	reap(is_read, length);
	submit(1, 1, NULL, STATUS);
	reap(1, STATUS);
	if (answer[12])
		exit(fprintf(stderr, "client: the disk's status is %d\n", answer[12]));
}

static void start(const struct kind *kind)
{
	/* The device descriptor. */
	static const char setup[8] = { (char)0x80, 6, 0, 1, 0, 0, 18, 0 };

	if (is(kind, "echo"))
		put(payload, HEADER);
	else if (is(kind, "control"))
		submit(0, 1, setup, kind->length);
	else if (is(kind, "in"))
		submit(1, 1, NULL, kind->length);
	else if (is(kind, "out"))
		submit(2, 0, NULL, kind->length);
	else
		command(is(kind, "read"), kind->length);
}

static void finish(const struct kind *kind)
{
	if (is(kind, "echo"))
		get(answer, HEADER);
	else if (is(kind, "control") || is(kind, "in"))
		reap(1, kind->length);
	else if (is(kind, "out"))
		reap(0, kind->length);
}

static int ascending(const void *a, const void *b)
{
	double difference = *(const double *)a - *(const double *)b;

	return difference < 0 ? -1 : difference > 0;
}

static void measure(const struct kind *kind)
{
	double starts[DEEPEST], before = spent(), begin = now(), end = begin;
	int sent = 0, count = 0, kept;

	for (; sent < kind->depth; sent++) {
		starts[sent] = now();
		start(kind);
	}
	while (count < sent) {
		finish(kind);
		end = now();
		samples[count % SAMPLES] = end - starts[count % kind->depth];
		count++;
		if (end - begin < kind->seconds * 1e6) {
			starts[sent % kind->depth] = end;
			start(kind);
			sent++;
		}
	}
	kept = count < SAMPLES ? count : SAMPLES;
	before = spent() - before;
	qsort(samples, kept, sizeof(*samples), ascending);
	printf("{\"count\":%d,\"seconds\":%.6f,\"bytes\":%.0f,\"p50\":%.2f,\"p99\":%.2f,\"client\":%.6f}\n", count,
	       (end - begin) / 1e6, (double)count * kind->length, samples[kept / 2], samples[kept - 1 - kept / 100], before);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	struct kind kind;
	char line[128];

	if (argc != 2 && argc != 3 && argc != 6)
		return fprintf(stderr, "usage: client PORT|PATH [BUSID [AUTHORITY CERTIFICATE KEY]]\n"), 2;
	dial(argv[1]);
	if (argc > 3)
		secure(argv + 3);
	if (argc > 2)
		import(argv[2]);
	while (fgets(line, sizeof(line), stdin)) {
		if (sscanf(line, "%15s %u %d %lf", kind.name, &kind.length, &kind.depth, &kind.seconds) != 4 ||
		    kind.length > LONGEST || kind.depth < 1 || kind.depth > DEEPEST)
			return fprintf(stderr, "client: what is %s", line), 2;
		measure(&kind);
	}
	return 0;
}
