// SPDX-License-Identifier: Apache-2.0
/*
 * Asking a server: for its list, and for a device.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "attach.h"
#include "usbip.h"

/* Milliseconds; of a serial port, until the server's side is there again. */
enum {
	REPLY_LIMIT = 5000,
	REOPEN_LIMIT = 10000,
	FAREWELL_LIMIT = 5000,
};

/* So many devices a server's list has at most. */
#define LIST_LIMIT	1024
/* As many times a serial port is tried that has something else to say, left by somebody before. */
#define SERIAL_TRIES	6
/* Beside OK and its kind: a serial port has said something else. */
#define AGAIN		(-1)

/*
 * A whole frame of nothing, which vusbd takes for the end: at a serial port it doesn't see that it's closed. If it
 * can't be said, the next one's request ends the session.
 */
void bid_farewell(const struct server *server)
{
	static const unsigned char nothing[USBIP_HEADER];

	if (server->is_serial)
		(void)give(server->fd, nothing, sizeof(nothing), now() + FAREWELL_LIMIT);
}

/*
 * Whether the server's side of a serial port is there before the deadline. Reads away what was left by somebody before.
 */
static bool is_opened(int fd, int64_t deadline)
{
	struct pollfd entry = {.fd = fd, .events = POLLIN | POLLOUT};
	char rest[4096];

	do {
		if (poll(&entry, 1, 0) < 0 && errno != EINTR)
			return false;
		if (entry.revents & POLLIN && read(fd, rest, sizeof(rest)) > 0)
			continue;
		if (entry.revents & POLLOUT && !(entry.revents & POLLHUP))
			return true;
		nap();
	} while (now() < deadline);
	return false;
}

/* Return: FAILED; AGAIN at a serial port. */
static int note_silence(const struct server *server)
{
	int error = errno;

	if (!server->is_serial) {
		say(server->name, ": no answer: ", error ? strerror(error) : "it has closed the connection");
		return FAILED;
	}
	/* With the request before it, it's more than a frame: one that still is somebody else's session ends. */
	if (error == ETIMEDOUT)
		bid_farewell(server);
	return AGAIN;
}

/* Sends a request and takes the 8 bytes that every reply begins with. Return: OK, FAILED, AGAIN. */
static int try_to_ask(const struct server *server, const unsigned char *request, size_t count, uint32_t code,
		      uint32_t *status)
{
	unsigned char reply[USBIP_OPERATION];

	if (server->is_serial && !is_opened(server->fd, now() + REOPEN_LIMIT)) {
		say(server->name, ": nobody is at the other end of the port");
		return FAILED;
	}
	if (give(server->fd, request, count, now() + REPLY_LIMIT) < 0 ||
	    take(server->fd, reply, sizeof(reply), now() + REPLY_LIMIT) < 0)
		return note_silence(server);
	if (half(reply) != USBIP_VERSION || half(reply + 2) != code) {
		if (server->is_serial)
			return AGAIN;
		say(server->name, ": what answers doesn't speak USB/IP 1.1.1");
		return FAILED;
	}
	*status = word(reply + 4);
	return OK;
}

static int ask(const struct server *server, const unsigned char *request, size_t count, uint32_t code, uint32_t *status)
{
	int i;

	for (i = 0; i < SERIAL_TRIES; i++) {
		int result = try_to_ask(server, request, count, code, status);

		if (result != AGAIN)
			return result;
		/* The connection that has said so ends, and the next one is begun. */
		nap();
	}
	say(server->name, ": no answer of USB/IP");
	return FAILED;
}

/* Text of the server's, made fit for a terminal: the field has a zero in it, or is cut at its end. */
static const char *harmless(unsigned char *field, size_t size)
{
	unsigned char *next;

	field[size - 1] = 0;
	for (next = field; *next; next++)
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
	unsigned char record[USBIP_RECORD], interfaces[255 * 4];
	struct number vendor, product;

	if (take(server->fd, record, sizeof(record), deadline) < 0 ||
	    take(server->fd, interfaces, record[USBIP_RECORD - 1] * 4u, deadline) < 0)
		return FAILED;
	show(harmless(record + USBIP_PATH, USBIP_BUSID), "\t", hexadecimal(&vendor, half(record + 300)), ":",
	     hexadecimal(&product, half(record + 302)), "\t", speed_name(word(record + 296)), "\t",
	     harmless(record, USBIP_PATH));
	return OK;
}

/* Shows what there is. */
int list(const struct server *server)
{
	unsigned char request[USBIP_OPERATION] = {0}, count[4];
	uint32_t status = 0, left;
	int64_t deadline;
	int result;

	put_half(request, USBIP_VERSION);
	put_half(request + 2, USBIP_REQUEST_LIST);
	result = ask(server, request, sizeof(request), USBIP_REPLY_LIST, &status);
	if (result != OK)
		return result;
	/* It can't keep this here: one deadline for all that it announces, however it's doled out. */
	deadline = now() + REPLY_LIMIT;
	if (status || take(server->fd, count, sizeof(count), deadline) < 0)
		goto failed;
	if (word(count) > LIST_LIMIT) {
		say(server->name, ": it announces more devices than a server has");
		return FAILED;
	}
	for (left = word(count); left; left--)
		if (list_one(server, deadline) != OK)
			goto failed;
	return OK;
failed:
	say(server->name, ": its list is cut short");
	return FAILED;
}

/* Return: OK, BUSY, FAILED. */
static int tell_refusal(const struct server *server, const char *busid, uint32_t status)
{
	struct number number;

	switch (status) {
	case 0:
		return OK;
	case USBIP_STATUS_BUSY:
		say(server->name, ": ", busid, " is refused: it's in use");
		return BUSY;
	case USBIP_STATUS_NONE:
		say(server->name, ": ", busid, " is refused: there is no such device");
		return FAILED;
	default:
		say(server->name, ": ", busid, " is refused: status ", decimal(&number, status));
		return FAILED;
	}
}

static int read_device(const struct server *server, const char *busid, struct device *device)
{
	unsigned char record[USBIP_RECORD];
	uint32_t bus, address, speed;

	if (take(server->fd, record, sizeof(record), now() + REPLY_LIMIT) < 0) {
		say(server->name, ": its answer is cut short");
		return FAILED;
	}
	if (strncmp((const char *)record + USBIP_PATH, busid, USBIP_BUSID)) {
		say(server->name, ": it answers for another device than ", busid);
		return FAILED;
	}
	bus = word(record + 288);
	address = word(record + 292);
	speed = word(record + 296);
	if (!bus || !address || bus > 0xffff || address > 0xffff || speed < 1 || speed > 6) {
		say(server->name, ": it answers with numbers or a speed that no device has");
		return FAILED;
	}
	device->id = bus << 16 | address;
	/* vhci-hcd of Linux 6.1 knows no faster one. */
	device->speed = speed > 5 ? 5 : speed;
	return OK;
}

/* Asks for the device, whose connection this one is from then on; @busid has less than USBIP_BUSID bytes. */
int import(const struct server *server, const char *busid, struct device *device)
{
	unsigned char request[USBIP_OPERATION + USBIP_BUSID] = {0};
	uint32_t status = 0;
	int result;

	put_half(request, USBIP_VERSION);
	put_half(request + 2, USBIP_REQUEST_IMPORT);
	memcpy(request + USBIP_OPERATION, busid, strlen(busid));
	result = ask(server, request, sizeof(request), USBIP_REPLY_IMPORT, &status);
	if (result == OK)
		result = tell_refusal(server, busid, status);
	return result == OK ? read_device(server, busid, device) : result;
}
