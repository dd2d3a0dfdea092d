// SPDX-License-Identifier: Apache-2.0
//
// vusb-attach: attaches a device of a USB/IP server to this machine's vhci-hcd, over TCP, vsock, a Unix socket or a
// virtio serial port. Static and without stdio: it's copied into guests. Attach.md of VUSBVMM has what it does where
// something is in the way.
//
// The server is believed nothing: what comes from it has a fixed length, or is compared with what may be before it's
// used.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { OK = 0, FAILED = 1, USAGE = 2, BUSY = 4, AGAIN = -1 };

enum {
	VERSION = 0x0111,
	REQUEST_LIST = 0x8005,
	REPLY_LIST = 0x0005,
	REQUEST_IMPORT = 0x8003,
	REPLY_IMPORT = 0x0003,
	COMMAND_SUBMIT = 1,
	STATUS_BUSY = 2,
	STATUS_NONE = 4,
	PATH_BYTES = 256,
	BUSID_BYTES = 32,
	RECORD_BYTES = 312,
	HEADER_BYTES = 48,
	ISO_BYTES = 16,
	NO_PACKETS = -1,
};

// Milliseconds.
enum {
	CONNECT_LIMIT = 5000,
	REPLY_LIMIT = 5000,
	// Of a serial port: until who has just lost its device has closed it; until the server's side is there again.
	CLOSE_LIMIT = 1000,
	REOPEN_LIMIT = 10000,
	FAREWELL_LIMIT = 5000,
};

// So many devices a server's list has at most.
enum { LIST_LIMIT = 1024 };

// As many times a serial port is tried that has something else to say, left by somebody before.
enum { SERIAL_TRIES = 6 };

// The most that a frame of this kernel's may have: longer transfers than vusbd takes.
#define FRAME_LIMIT (32u << 20)

// linux/vm_sockets.h, which isn't everywhere.
#define VSOCK_FAMILY 40
struct vsock_address {
	unsigned short family, reserved;
	unsigned int port, cid;
	unsigned char zero[4];
};

struct server {
	int fd;
	int is_serial;
	const char *name;
};

struct device {
	uint32_t id, speed;
};

// ---- Saying things

#define say(...) say_all(STDERR_FILENO, (const char *[]){"vusb-attach: ", __VA_ARGS__, "\n", NULL})
#define show(...) say_all(STDOUT_FILENO, (const char *[]){__VA_ARGS__, "\n", NULL})

static void say_all(int fd, const char *const *texts)
{
	char line[1024];
	size_t length = 0;

	for (; *texts; texts++)
		for (const char *text = *texts; *text && length < sizeof(line); text++)
			line[length++] = *text;
	// Where nobody reads it, there is nobody to tell.
	if (write(fd, line, length) < 0)
		return;
}

// Digits in that base, at least so many.
static char *digits(char *end, uint32_t value, uint32_t base, int least)
{
	*--end = 0;
	for (; value || least > 0; least--, value /= base)
		*--end = "0123456789abcdef"[value % base];
	return end;
}

// Decimal.
struct number {
	char text[12];
};

static const char *decimal(struct number *number, uint32_t value)
{
	return digits(number->text + sizeof(number->text), value, 10, 1);
}

// ---- Time and bytes

static int64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

static void nap(void) { nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL); }

// Whether the descriptor is ready before the deadline, or at its end.
static int is_ready(int fd, short events, int64_t deadline)
{
	struct pollfd entry = {.fd = fd, .events = events};
	int64_t rest;

	while ((rest = deadline - now()) > 0) {
		int count = poll(&entry, 1, (int)rest);

		if (count > 0)
			return 1;
		if (count < 0 && errno != EINTR)
			break;
	}
	errno = ETIMEDOUT;
	return 0;
}

static int is_passing(void) { return errno == EAGAIN || errno == EINTR; }

// - Returns: 0, or -1 with errno; 0 there means that the other side has ended.
static int take(int fd, void *bytes, size_t count, int64_t deadline)
{
	unsigned char *next = bytes;

	while (count) {
		ssize_t got;

		if (!is_ready(fd, POLLIN, deadline))
			return -1;
		got = read(fd, next, count);
		if (got < 0 && is_passing())
			continue;
		if (got <= 0) {
			errno = got ? errno : 0;
			return -1;
		}
		next += got;
		count -= (size_t)got;
	}
	return 0;
}

static int give(int fd, const void *bytes, size_t count, int64_t deadline)
{
	const unsigned char *next = bytes;

	while (count) {
		ssize_t put;

		if (!is_ready(fd, POLLOUT, deadline))
			return -1;
		put = write(fd, next, count);
		if (put < 0 && is_passing())
			continue;
		if (put <= 0)
			return -1;
		next += put;
		count -= (size_t)put;
	}
	return 0;
}

static uint32_t word(const unsigned char *bytes)
{
	return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static uint32_t half(const unsigned char *bytes) { return (uint32_t)bytes[0] << 8 | bytes[1]; }

static void put_half(unsigned char *bytes, uint32_t value)
{
	bytes[0] = (unsigned char)(value >> 8);
	bytes[1] = (unsigned char)value;
}

// A decimal number up to `limit`; -1 for anything else.
static int64_t number_of(const char *text, int64_t limit)
{
	int64_t value = 0;

	if (!*text)
		return -1;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return -1;
		value = value * 10 + (*text - '0');
		if (value > limit)
			return -1;
	}
	return value;
}

// ---- Connecting

static int connect_to(int family, const void *address, socklen_t length, const char *name)
{
	int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int error = 0;
	socklen_t size = sizeof(error);

	if (fd < 0) {
		say(name, ": ", strerror(errno));
		return -1;
	}
	if (connect(fd, address, length) == 0)
		return fd;
	if (errno != EINPROGRESS)
		error = errno;
	else if (!is_ready(fd, POLLOUT, now() + CONNECT_LIMIT))
		error = ETIMEDOUT;
	else if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
		error = errno;
	if (!error)
		return fd;
	say(name, ": ", strerror(error));
	close(fd);
	return -1;
}

// ADDRESS:PORT; one of IPv6 is in brackets. - Returns: the descriptor, -1, or -2 where it isn't that.
static int connect_tcp(const char *text, const char *name)
{
	struct sockaddr_in four = {.sin_family = AF_INET};
	struct sockaddr_in6 six = {.sin6_family = AF_INET6};
	char host[INET6_ADDRSTRLEN];
	const char *colon = strrchr(text, ':');
	size_t length = colon ? (size_t)(colon - text) : 0;
	int64_t port = colon ? number_of(colon + 1, 65535) : -1;
	int is_six = length > 2 && text[0] == '[' && colon[-1] == ']';
	int fd, one = 1;

	if (is_six) {
		text++;
		length -= 2;
	}
	if (port < 1 || !length || length >= sizeof(host))
		return -2;
	memcpy(host, text, length);
	host[length] = 0;
	if (is_six && inet_pton(AF_INET6, host, &six.sin6_addr) == 1) {
		six.sin6_port = htons((uint16_t)port);
		fd = connect_to(AF_INET6, &six, sizeof(six), name);
	} else if (!is_six && inet_pton(AF_INET, host, &four.sin_addr) == 1) {
		four.sin_port = htons((uint16_t)port);
		fd = connect_to(AF_INET, &four, sizeof(four), name);
	} else {
		return -2;
	}
	if (fd >= 0) {
		// A small URB doesn't wait for the next, and a host that vanishes is found out. Without them it works,
		// too.
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	}
	return fd;
}

static int connect_vsock(const char *text, const char *name)
{
	struct vsock_address address = {.family = VSOCK_FAMILY};
	char cid[12];
	const char *colon = strchr(text, ':');
	int64_t number, port = colon ? number_of(colon + 1, 0xfffffffe) : -1;

	if (port < 0 || (size_t)(colon - text) >= sizeof(cid))
		return -2;
	memcpy(cid, text, (size_t)(colon - text));
	cid[colon - text] = 0;
	number = number_of(cid, 0xfffffffe);
	if (number < 0)
		return -2;
	address.cid = (unsigned int)number;
	address.port = (unsigned int)port;
	return connect_to(VSOCK_FAMILY, &address, sizeof(address), name);
}

static int connect_unix(const char *path, const char *name)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	if (!*path || strlen(path) >= sizeof(address.sun_path))
		return -2;
	strcpy(address.sun_path, path);
	return connect_to(AF_UNIX, &address, sizeof(address), name);
}

// Whether the server's side of the port is there before the deadline. Reads away what was left by somebody before.
static int is_opened(int fd, int64_t deadline)
{
	struct pollfd entry = {.fd = fd, .events = POLLIN | POLLOUT};
	char rest[4096];

	do {
		if (poll(&entry, 1, 0) < 0 && errno != EINTR)
			return 0;
		if (entry.revents & POLLIN) {
			if (read(fd, rest, sizeof(rest)) > 0)
				continue;
		}
		if ((entry.revents & POLLOUT) && !(entry.revents & POLLHUP))
			return 1;
		nap();
	} while (now() < deadline);
	return 0;
}

static int open_serial(const char *path, const char *name)
{
	int64_t deadline = now() + CLOSE_LIMIT;
	int fd;

	if (*path != '/')
		return -2;
	while ((fd = open(path, O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)) < 0 && errno == EBUSY && now() < deadline)
		nap();
	if (fd < 0) {
		int error = errno;

		say(name, ": ", strerror(error), error == EBUSY ? ": one device at a time" : "");
		errno = error;
		return -1;
	}
	return fd;
}

// - Returns: OK, FAILED, USAGE, BUSY.
static int reach(struct server *server)
{
	static const struct {
		const char *kind;
		int (*connect)(const char *text, const char *name);
	} kinds[] = {
		{"tcp:", connect_tcp}, {"vsock:", connect_vsock}, {"unix:", connect_unix}, {"serial:", open_serial}
	};

	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		size_t length = strlen(kinds[i].kind);

		if (strncmp(server->name, kinds[i].kind, length))
			continue;
		errno = 0;
		server->is_serial = kinds[i].connect == open_serial;
		server->fd = kinds[i].connect(server->name + length, server->name);
		if (server->fd == -2)
			break;
		return server->fd >= 0 ? OK : server->is_serial && errno == EBUSY ? BUSY : FAILED;
	}
	if (server->fd != -2)
		say(server->name, ": no such stream");
	else
		say(server->name, ": no such address; a host is given by its number");
	return USAGE;
}

// ---- Asking

// A whole frame of nothing, which vusbd takes for the end: at a serial port it doesn't see that it's closed.
static void bid_farewell(const struct server *server)
{
	unsigned char nothing[HEADER_BYTES] = {0};

	// If it can't be said, the next one's request ends the session.
	if (server->is_serial)
		(void)give(server->fd, nothing, sizeof(nothing), now() + FAREWELL_LIMIT);
}

// Sends a request and takes the 8 bytes that every reply begins with.
// - Returns: OK; FAILED, told; AGAIN where a serial port has to say something else.
static int ask(const struct server *server, const unsigned char *request, size_t count, uint32_t code, uint32_t *status)
{
	unsigned char reply[8];

	if (server->is_serial && !is_opened(server->fd, now() + REOPEN_LIMIT)) {
		say(server->name, ": nobody is at the other end of the port");
		return FAILED;
	}
	if (give(server->fd, request, count, now() + REPLY_LIMIT) < 0 ||
	    take(server->fd, reply, sizeof(reply), now() + REPLY_LIMIT) < 0) {
		if (server->is_serial) {
			// With the request before it, it's more than a frame: one that still is somebody else's session
			// ends.
			if (errno == ETIMEDOUT)
				bid_farewell(server);
			return AGAIN;
		}
		say(server->name, ": no answer: ", errno ? strerror(errno) : "it has closed the connection");
		return FAILED;
	}
	if (half(reply) != VERSION || half(reply + 2) != code) {
		if (server->is_serial)
			return AGAIN;
		say(server->name, ": what answers doesn't speak USB/IP 1.1.1");
		return FAILED;
	}
	*status = word(reply + 4);
	return OK;
}

static int ask_patiently(const struct server *server, const unsigned char *request, size_t count, uint32_t code,
			 uint32_t *status)
{
	for (int i = 0; i < SERIAL_TRIES; i++) {
		int result = ask(server, request, count, code, status);

		if (result != AGAIN)
			return result;
		// The connection that has said so ends, and the next one is begun.
		nap();
	}
	say(server->name, ": no answer of USB/IP");
	return FAILED;
}

// Text of the server's, made fit for a terminal: the field has a zero in it, or is cut at its end.
static const char *harmless(unsigned char *field, size_t size)
{
	field[size - 1] = 0;
	for (unsigned char *next = field; *next; next++)
		if (*next < 0x20 || *next > 0x7e)
			*next = '?';
	return (const char *)field;
}

static const char *speed_name(uint32_t speed)
{
	static const char *const names[] = {"?", "low", "full", "high", "wireless", "super", "super+"};

	return speed < sizeof(names) / sizeof(*names) ? names[speed] : "?";
}

static int list_one(const struct server *server, int64_t deadline)
{
	unsigned char record[RECORD_BYTES], interfaces[255 * 4];
	char vendor[5], product[5];

	if (take(server->fd, record, sizeof(record), deadline) < 0 ||
	    take(server->fd, interfaces, record[RECORD_BYTES - 1] * 4u, deadline) < 0)
		return FAILED;
	show(harmless(record + PATH_BYTES, BUSID_BYTES), "\t", digits(vendor + 5, half(record + 300), 16, 4), ":",
	     digits(product + 5, half(record + 302), 16, 4), "\t", speed_name(word(record + 296)), "\t",
	     harmless(record, PATH_BYTES));
	return OK;
}

static int list(const struct server *server)
{
	unsigned char request[8] = {0}, count[4];
	uint32_t status = 0;
	int64_t deadline;
	int result;

	put_half(request, VERSION);
	put_half(request + 2, REQUEST_LIST);
	result = ask_patiently(server, request, sizeof(request), REPLY_LIST, &status);
	if (result != OK)
		return result;
	// It can't keep this here: one deadline for all that it announces, however it's doled out.
	deadline = now() + REPLY_LIMIT;
	if (status || take(server->fd, count, sizeof(count), deadline) < 0)
		goto failed;
	if (word(count) > LIST_LIMIT) {
		say(server->name, ": it announces more devices than a server has");
		return FAILED;
	}
	for (uint32_t left = word(count); left; left--)
		if (list_one(server, deadline) != OK)
			goto failed;
	return OK;
failed:
	say(server->name, ": its list is cut short");
	return FAILED;
}

static int import(const struct server *server, const char *busid, struct device *device)
{
	unsigned char request[8 + BUSID_BYTES] = {0}, record[RECORD_BYTES];
	struct number number;
	uint32_t status = 0, bus, address;
	int result;

	put_half(request, VERSION);
	put_half(request + 2, REQUEST_IMPORT);
	strcpy((char *)request + 8, busid);
	result = ask_patiently(server, request, sizeof(request), REPLY_IMPORT, &status);
	if (result != OK)
		return result;
	if (status) {
		if (status == STATUS_BUSY)
			say(server->name, ": ", busid, " is refused: it's in use");
		else if (status == STATUS_NONE)
			say(server->name, ": ", busid, " is refused: there is no such device");
		else
			say(server->name, ": ", busid, " is refused: status ", decimal(&number, status));
		return status == STATUS_BUSY ? BUSY : FAILED;
	}
	if (take(server->fd, record, sizeof(record), now() + REPLY_LIMIT) < 0) {
		say(server->name, ": its answer is cut short");
		return FAILED;
	}
	bus = word(record + 288);
	address = word(record + 292);
	device->speed = word(record + 296);
	if (strncmp((const char *)record + PATH_BYTES, busid, BUSID_BYTES)) {
		say(server->name, ": it answers for another device than ", busid);
		return FAILED;
	}
	if (!bus || !address || bus > 0xffff || address > 0xffff || device->speed < 1 || device->speed > 6) {
		say(server->name, ": it answers with numbers or a speed that no device has");
		return FAILED;
	}
	// vhci-hcd of Linux 6.1 knows no faster one.
	if (device->speed > 5)
		device->speed = 5;
	device->id = bus << 16 | address;
	return OK;
}

// ---- vhci-hcd

// A test has its own.
#ifndef VHCI
#define VHCI "/sys/devices/platform/vhci_hcd.0/"
#endif

// The whole of a small file. - Returns: its length, or -1.
static ssize_t read_file(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length = fd < 0 ? -1 : read(fd, text, size - 1);

	if (fd >= 0)
		close(fd);
	if (length >= 0)
		text[length] = 0;
	return length;
}

static int has_vhci(void)
{
	if (access(VHCI "attach", W_OK) == 0)
		return 1;
	if (errno == ENOENT)
		say("no vhci-hcd here: modprobe vhci-hcd");
	else
		say(VHCI "attach: ", strerror(errno));
	return 0;
}

// Lines `hs 0000 004 ...`: hub, port, state; 4 is free. The first free port from `from` on for that speed, or -1.
static int64_t free_port_in(const char *text, uint32_t speed, int64_t from)
{
	while (text) {
		const char *line = text;

		text = strchr(text, '\n');
		text = text ? text + 1 : NULL;
		if (strlen(line) < 11 || line[0] != (speed >= 5 ? 's' : 'h') || line[1] != 's')
			continue;
		int64_t port = strtol(line + 4, NULL, 10);

		if (!strncmp(line + 8, " 004", 4) && port >= from)
			return port;
	}
	return -1;
}

static int64_t free_port(uint32_t speed, int64_t from)
{
	char text[16384], path[64], digit[8];

	// A controller each: status, status.1...
	for (uint32_t i = 0; i < 128; i++) {
		strcpy(path, VHCI "status");
		if (i) {
			strcat(path, ".");
			strcat(path, digits(digit + sizeof(digit), i, 10, 1));
		}
		if (read_file(path, text, sizeof(text)) < 0)
			break;
		int64_t port = free_port_in(text, speed, from);

		if (port >= 0)
			return port;
	}
	return -1;
}

static int write_attach(uint32_t port, int fd, const struct device *device)
{
	char line[64];
	uint32_t values[] = {port, (uint32_t)fd, device->id, device->speed};
	int attach = open(VHCI "attach", O_WRONLY | O_CLOEXEC);
	ssize_t written;

	if (attach < 0)
		return -1;
	line[0] = 0;
	for (int i = 0; i < 4; i++) {
		struct number number;

		strcat(line, decimal(&number, values[i]));
		strcat(line, i < 3 ? " " : "\n");
	}
	written = write(attach, line, strlen(line));
	close(attach);
	return written < 0 ? -1 : 0;
}

// Gives the kernel a socket. Somebody else may take a port between the look and this.
static int attach(const struct device *device, int fd)
{
	int64_t port = -1;

	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
	while ((port = free_port(device->speed, port + 1)) >= 0) {
		struct number number;

		if (write_attach((uint32_t)port, fd, device) == 0) {
			show("port ", decimal(&number, (uint32_t)port));
			return OK;
		}
		if (errno != EBUSY) {
			say("vhci-hcd doesn't take it: ", strerror(errno));
			return FAILED;
		}
	}
	say("all of vhci-hcd's ports for this speed are taken");
	return BUSY;
}

// ---- A serial port

// What goes from the kernel to the port: whole frames, so that one that breaks off in the middle is never begun there.
struct frame {
	unsigned char *bytes;
	size_t room, have, need, sent;
};

// Of a frame of which so many bytes have come.
static size_t frame_bytes(const unsigned char *header)
{
	size_t count = HEADER_BYTES;
	uint32_t packets = word(header + 32);

	if (word(header) != COMMAND_SUBMIT)
		return count;
	if (!word(header + 12))
		count += word(header + 24);
	if (packets != (uint32_t)NO_PACKETS)
		count += (size_t)packets * ISO_BYTES;
	return count;
}

static int make_room(struct frame *frame)
{
	unsigned char *bytes;

	if (frame->need <= frame->room)
		return 0;
	if (frame->need > FRAME_LIMIT)
		return -1;
	bytes = realloc(frame->bytes, frame->need);
	if (!bytes)
		return -1;
	frame->bytes = bytes;
	frame->room = frame->need;
	return 0;
}

static int is_whole(const struct frame *frame) { return frame->have == frame->need; }

// - Returns: -1 at the end of the kernel's side.
static int read_frame(struct frame *frame, int kernel)
{
	ssize_t got = read(kernel, frame->bytes + frame->have, frame->need - frame->have);

	if (got < 0 && is_passing())
		return 0;
	if (got <= 0)
		return -1;
	frame->have += (size_t)got;
	if (frame->have == HEADER_BYTES) {
		frame->need = frame_bytes(frame->bytes);
		return make_room(frame);
	}
	return 0;
}

static int send_frame(struct frame *frame, int port)
{
	ssize_t put = write(port, frame->bytes + frame->sent, frame->have - frame->sent);

	if (put < 0)
		return is_passing() ? 0 : -1;
	frame->sent += (size_t)put;
	if (frame->sent == frame->need) {
		frame->have = 0;
		frame->sent = 0;
		frame->need = HEADER_BYTES;
	}
	return 0;
}

struct chunk {
	unsigned char bytes[65536];
	size_t have, sent;
};

// - Returns: -1 at the end of that side.
static int read_chunk(struct chunk *chunk, int fd)
{
	ssize_t got = read(fd, chunk->bytes, sizeof(chunk->bytes));

	if (got < 0)
		return is_passing() ? 0 : -1;
	chunk->have = (size_t)got;
	chunk->sent = 0;
	return got ? 0 : -1;
}

static int send_chunk(struct chunk *chunk, int fd)
{
	ssize_t put = write(fd, chunk->bytes + chunk->sent, chunk->have - chunk->sent);

	if (put < 0)
		return is_passing() ? 0 : -1;
	chunk->sent += (size_t)put;
	return 0;
}

// Moves bytes both ways until a side ends.
static void pump(int kernel, const struct server *server)
{
	struct frame up = {.bytes = malloc(1u << 20), .room = 1u << 20, .need = HEADER_BYTES};
	static struct chunk down;
	struct pollfd entries[2] = {{.fd = kernel}, {.fd = server->fd}};
	int has_ended = !up.bytes, has_host_ended = 0;

	while (!has_ended && !has_host_ended) {
		int waits = down.sent < down.have;

		entries[0].events = (short)((is_whole(&up) ? 0 : POLLIN) | (waits ? POLLOUT : 0));
		entries[1].events = (short)((is_whole(&up) ? POLLOUT : 0) | (waits ? 0 : POLLIN));
		// poll tells of a hang-up whatever it's asked: one that can't be acted on yet isn't asked for again at
		// once.
		entries[1].fd = waits && entries[1].revents & (POLLHUP | POLLERR) ? -1 : server->fd;
		if (poll(entries, 2, -1) < 0 && errno != EINTR)
			break;
		// A hang-up counts once all that came before it has been read.
		if (entries[1].revents & (POLLIN | POLLHUP | POLLERR) && !waits)
			has_host_ended = read_chunk(&down, server->fd) < 0;
		if (entries[1].revents & POLLOUT)
			has_host_ended |= send_frame(&up, server->fd) < 0;
		// What a socket that was hung up has yet is read first.
		if (entries[0].revents & (POLLIN | POLLHUP | POLLERR))
			has_ended = is_whole(&up) ? entries[0].revents & (POLLHUP | POLLERR) :
						    read_frame(&up, kernel) < 0;
		if (down.sent < down.have)
			has_ended |= send_chunk(&down, kernel) < 0;
	}
	if (has_host_ended)
		return;
	// One that is whole, or half sent, is sent yet; of another one nothing has been.
	if (up.bytes && is_whole(&up) &&
	    give(server->fd, up.bytes + up.sent, up.need - up.sent, now() + FAREWELL_LIMIT) < 0)
		return;
	bid_farewell(server);
}

static int to_background(void)
{
	pid_t child = fork();
	int null;

	if (child < 0) {
		say("fork: ", strerror(errno));
		return -1;
	}
	if (child > 0)
		_exit(OK);
	setsid();
	// Who has started this waits for the end of its output.
	null = open("/dev/null", O_RDWR);
	if (null >= 0)
		for (int fd = 0; fd < 3; fd++)
			dup2(null, fd);
	return chdir("/");
}

// The kernel takes stream sockets alone: it gets one, whose other end is pumped to and from the port.
static int attach_serial(const struct server *server, const struct device *device, int is_background)
{
	int pair[2], result;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0) {
		say("socketpair: ", strerror(errno));
		return FAILED;
	}
	result = attach(device, pair[0]);
	close(pair[0]);
	if (result != OK)
		return result;
	if (is_background && to_background() < 0)
		return FAILED;
	pump(pair[1], server);
	return OK;
}

// ----

static int run(struct server *server, const char *busid, int is_background)
{
	struct device device = {0};
	int result;

	if (busid && !has_vhci())
		return FAILED;
	result = reach(server);
	if (result != OK)
		return result;
	if (!busid)
		return list(server);
	result = import(server, busid, &device);
	if (result == OK) {
		result = server->is_serial ? attach_serial(server, &device, is_background) :
					     attach(&device, server->fd);
		if (result != OK)
			bid_farewell(server);
	}
	return result;
}

static int usage(void)
{
	static const char text[] =
		"usage: vusb-attach [-d] STREAM BUSID    attach that device\n"
		"       vusb-attach -l STREAM            list what there is\n"
		"\n"
		"STREAM is tcp:ADDRESS:PORT, vsock:CID:PORT, unix:PATH or serial:PATH, a port such as\n"
		"/dev/virtio-ports/org.vusb.usbip.0. At a serial port it stays until the end of the device,\n"
		"with -d in the background; elsewhere the kernel has the connection. vhci-hcd must be loaded.\n"
		"Ends with 0 done, 1 failed, 2 wrong arguments, 4 in use.\n";

	return write(STDERR_FILENO, text, sizeof(text) - 1) < 0 ? FAILED : USAGE;
}

int main(int argc, char **argv)
{
	struct server server = {.fd = -1};
	int is_background = 0, lists = 0, option;

	while ((option = getopt(argc, argv, "dlh")) != -1) {
		is_background |= option == 'd';
		lists |= option == 'l';
		if (option != 'd' && option != 'l')
			return usage();
	}
	if (argc - optind != (lists ? 1 : 2))
		return usage();
	if (!lists && (!*argv[optind + 1] || strlen(argv[optind + 1]) >= BUSID_BYTES))
		return usage();
	signal(SIGPIPE, SIG_IGN);
	server.name = argv[optind];
	return run(&server, lists ? NULL : argv[optind + 1], is_background);
}
