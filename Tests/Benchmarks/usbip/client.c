/* SPDX-License-Identifier: Apache-2.0
 *
 * client ECHOPORT PORT BUSID [SECONDS]: measures a USB/IP server on loopback that has a Gadget Zero (bulk endpoints 1 IN
 * and 2 OUT), against the echo server. One line a measurement: its name, the median and the 99th hundredth in
 * microseconds, how many a second, megabytes a second. The last two lines are the ratios that count.
 */
#include <arpa/inet.h>
#include <endian.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HEADER = 48, LONGEST = 1 << 20, DEEPEST = 32, SAMPLES = 1 << 20 };

struct kind {
	const char *name;
	int endpoint, in;
	uint32_t length;
};

static char payload[HEADER + LONGEST], answer[HEADER + LONGEST];
static double samples[SAMPLES];
static double seconds = 1;
static uint32_t seqnum, devid;

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1e6 + time.tv_nsec / 1e3;
}

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static int dial(int port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
	int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)))
		fail("connect");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return fd;
}

static void put(int fd, const void *bytes, size_t count)
{
	while (count) {
		ssize_t sent = send(fd, bytes, count, MSG_NOSIGNAL);

		if (sent <= 0)
			fail("send");
		bytes = (const char *)bytes + sent;
		count -= sent;
	}
}

static void get(int fd, void *bytes, size_t count)
{
	while (count) {
		ssize_t more = recv(fd, bytes, count, 0);

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

static void import(int fd, const char *busid)
{
	char request[40] = { 0x01, 0x11, (char)0x80, 0x03 }, reply[320];

	strncpy(request + 8, busid, 31);
	put(fd, request, sizeof(request));
	get(fd, reply, 8);
	if (word(reply + 4))
		exit(fprintf(stderr, "import of %s: status %u\n", busid, word(reply + 4)));
	get(fd, reply + 8, 312);
	devid = word(reply + 8 + 288) << 16 | word(reply + 8 + 292);
}

static void submit(int fd, const struct kind *kind)
{
	static const char setup[8] = { (char)0x80, 6, 0, 1, 0, 0, 18, 0 };

	memset(payload, 0, HEADER);
	set(payload, 1);
	set(payload + 4, ++seqnum);
	set(payload + 8, devid);
	set(payload + 12, kind->in);
	set(payload + 16, kind->endpoint);
	set(payload + 24, kind->length);
	set(payload + 32, 0xffffffff);
	if (!kind->endpoint)
		memcpy(payload + 40, setup, 8);
	put(fd, payload, HEADER + (kind->in ? 0 : kind->length));
}

static void reap(int fd, const struct kind *kind)
{
	get(fd, answer, HEADER);
	if (word(answer) != 3 || word(answer + 20) || word(answer + 24) != kind->length)
		exit(fprintf(stderr, "%s: status %d, %u bytes\n", kind->name, (int)word(answer + 20), word(answer + 24)));
	if (kind->in)
		get(fd, answer + HEADER, kind->length);
}

static int ascending(const void *a, const void *b)
{
	double difference = *(const double *)a - *(const double *)b;

	return difference < 0 ? -1 : difference > 0;
}

/* The median; `rate` is how many a second. */
static double tell(const char *name, int count, double elapsed, uint32_t bytes, double *rate)
{
	int kept = count < SAMPLES ? count : SAMPLES;

	qsort(samples, kept, sizeof(*samples), ascending);
	*rate = count / (elapsed / 1e6);
	printf("%-28s %9.1f %9.1f us %10.0f /s %8.0f MB/s\n", name, samples[kept / 2], samples[kept - 1 - kept / 100], *rate,
	       *rate * bytes / 1e6);
	fflush(stdout);
	return samples[kept / 2];
}

static double echo(int fd, double *rate)
{
	char bytes[HEADER] = { 0 };
	double begin = now(), end = begin;
	int count = 0;

	while (end - begin < seconds * 1e6) {
		double start = end;

		put(fd, bytes, HEADER);
		get(fd, bytes, HEADER);
		end = now();
		samples[count++ % SAMPLES] = end - start;
	}
	return tell("echo 48 bytes", count, end - begin, 0, rate);
}

static double measure(int fd, const struct kind *kind, int depth, double *rate)
{
	double starts[DEEPEST], begin = now(), end = begin;
	int sent = 0, count = 0;
	char name[64];

	for (; sent < depth; sent++) {
		starts[sent % depth] = now();
		submit(fd, kind);
	}
	while (count < sent) {
		reap(fd, kind);
		end = now();
		samples[count % SAMPLES] = end - starts[count % depth];
		count++;
		if (end - begin < seconds * 1e6) {
			starts[sent % depth] = end;
			submit(fd, kind);
			sent++;
		}
	}
	snprintf(name, sizeof(name), "%s depth %d", kind->name, depth);
	return tell(name, count, end - begin, kind->length, rate);
}

int main(int argc, char **argv)
{
	static const struct kind kinds[] = {
		{ "control in 18", 0, 1, 18 },	     { "bulk in 4 KiB", 1, 1, 4096 },
		{ "bulk out 4 KiB", 2, 0, 4096 },    { "bulk in 64 KiB", 1, 1, 65536 },
		{ "bulk out 64 KiB", 2, 0, 65536 },  { "bulk in 1 MiB", 1, 1, 1 << 20 },
		{ "bulk out 1 MiB", 2, 0, 1 << 20 },
	};
	double floor, echoes, rate, first = 0, deep = 0;
	int plain, fd;

	if (argc < 4)
		return fprintf(stderr, "usage: client ECHOPORT PORT BUSID [SECONDS]\n"), 2;
	if (argc > 4)
		seconds = atof(argv[4]);
	plain = dial(atoi(argv[1]));
	fd = dial(atoi(argv[2]));
	import(fd, argv[3]);
	echo(plain, &rate);
	floor = echo(plain, &echoes);
	for (size_t index = 0; index < sizeof(kinds) / sizeof(*kinds); index++) {
		/* What waits at once is less than a device may have in flight, and what the sockets hold: one thread sends and
		 * reads here. */
		int depth = kinds[index].length > 65536 ? 2 : DEEPEST;
		double median;

		if (kinds[index].length == 65536)
			depth = 8;
		median = measure(fd, &kinds[index], 1, &rate);
		if (!index)
			first = median;
		measure(fd, &kinds[index], depth, &rate);
		if (!index)
			deep = rate;
	}
	printf("control depth 1 takes %.2f times an echo (at most 3)\n", first / floor);
	printf("control depth 32 does %.2f times as many a second (at least 1)\n", deep / echoes);
	return 0;
}
