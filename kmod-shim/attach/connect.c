// SPDX-License-Identifier: Apache-2.0
/*
 * Addresses of servers, and connecting to them.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "attach.h"

/* Milliseconds; of a serial port, until who has just lost its device has closed it. */
enum {
	CONNECT_LIMIT = 5000,
	CLOSE_LIMIT = 1000,
};

#define TCP_PORT_LIMIT	65535
#define VSOCK_LIMIT	0xfffffffe

/* linux/vm_sockets.h, which isn't everywhere. */
#define VSOCK_FAMILY	40
struct vsock_address {
	unsigned short family;
	unsigned short reserved;
	unsigned int port;
	unsigned int cid;
	unsigned char zero[4];
};

/* A number of this host's or another's, and the port there. */
struct place {
	char host[INET6_ADDRSTRLEN];
	uint32_t port;
};

static int refuse(const struct server *server, const char *what, const char *remedy)
{
	say(server->name, ": ", what, ": ", remedy);
	return USAGE;
}

/* A decimal number up to @limit; -1 for anything else. */
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

/* HOST:PORT. Return: false where there is no port in that range; a host that's too long becomes an empty one. */
static bool split(const char *text, int64_t least, int64_t limit, struct place *place)
{
	const char *colon = strrchr(text, ':');
	int64_t port = colon ? number_of(colon + 1, limit) : -1;
	size_t length;

	if (port < least)
		return false;
	length = (size_t)(colon - text);
	if (length >= sizeof(place->host))
		length = 0;
	memcpy(place->host, text, length);
	place->host[length] = 0;
	place->port = (uint32_t)port;
	return true;
}

/* Return: 0, or -1 with errno. */
static int connect_within_limit(int fd, const void *address, socklen_t length)
{
	socklen_t size = sizeof(int);
	int error = 0;

	if (connect(fd, address, length) == 0)
		return 0;
	if (errno != EINPROGRESS || !is_ready(fd, POLLOUT, now() + CONNECT_LIMIT) ||
	    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
		return -1;
	errno = error;
	return error ? -1 : 0;
}

static int connect_to(struct server *server, int family, const void *address, socklen_t length)
{
	int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0) {
		say(server->name, ": ", strerror(errno));
		return FAILED;
	}
	if (connect_within_limit(fd, address, length) < 0) {
		say(server->name, ": ", strerror(errno), ": see whether a USB/IP server listens there");
		close(fd);
		return FAILED;
	}
	server->fd = fd;
	return OK;
}

/* A small URB doesn't wait for the next, and a host that vanishes is found out. Without them it works, too. */
static void set_options(int fd)
{
	int one = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
}

/* An address of IPv6 is in brackets, which are taken away. */
static bool is_bracketed(struct place *place)
{
	size_t length = strlen(place->host);

	if (length < 2 || place->host[0] != '[' || place->host[length - 1] != ']')
		return false;
	memmove(place->host, place->host + 1, length - 2);
	place->host[length - 2] = 0;
	return true;
}

static int connect_tcp(struct server *server, const char *text)
{
	struct sockaddr_in four = {.sin_family = AF_INET};
	struct sockaddr_in6 six = {.sin6_family = AF_INET6};
	struct place place;
	bool is_six;
	int result;

	if (!split(text, 1, TCP_PORT_LIMIT, &place))
		return refuse(server, "no port at its end", "write one from 1 to 65535, such as tcp:127.0.0.1:3240");
	four.sin_port = htons((uint16_t)place.port);
	six.sin6_port = htons((uint16_t)place.port);
	is_six = is_bracketed(&place);
	if (is_six && inet_pton(AF_INET6, place.host, &six.sin6_addr) == 1)
		result = connect_to(server, AF_INET6, &six, sizeof(six));
	else if (!is_six && inet_pton(AF_INET, place.host, &four.sin_addr) == 1)
		result = connect_to(server, AF_INET, &four, sizeof(four));
	else
		return refuse(server, "no numeric address before its port",
			      "write one, such as tcp:127.0.0.1:3240 or tcp:[::1]:3240");
	if (result == OK)
		set_options(server->fd);
	return result;
}

static int connect_vsock(struct server *server, const char *text)
{
	struct vsock_address address = {.family = VSOCK_FAMILY};
	struct place place;
	int64_t cid;

	if (!split(text, 0, VSOCK_LIMIT, &place))
		return refuse(server, "no port at its end", "write a number, such as vsock:2:3240");
	cid = number_of(place.host, VSOCK_LIMIT);
	if (cid < 0)
		return refuse(server, "no CID before its port", "write a number, such as vsock:2:3240 for the host");
	address.cid = (unsigned int)cid;
	address.port = place.port;
	return connect_to(server, VSOCK_FAMILY, &address, sizeof(address));
}

static int connect_unix(struct server *server, const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	size_t length = strlen(path);

	if (!length)
		return refuse(server, "no path", "write one, such as unix:/run/usbip.sock");
	if (length >= sizeof(address.sun_path))
		return refuse(server, "a socket's path has at most 107 bytes", "use a shorter one");
	memcpy(address.sun_path, path, length + 1);
	return connect_to(server, AF_UNIX, &address, sizeof(address));
}

static int open_serial(struct server *server, const char *path)
{
	int64_t deadline = now() + CLOSE_LIMIT;
	int error;

	if (*path != '/')
		return refuse(server, "no whole path",
			      "write that of a port, such as serial:/dev/virtio-ports/org.vusb.usbip.0");
	server->is_serial = true;
	for (;;) {
		server->fd = open(path, O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
		if (server->fd >= 0)
			return OK;
		error = errno;
		if (error != EBUSY || now() >= deadline)
			break;
		nap();
	}
	say(server->name, ": ", strerror(error), error == EBUSY ? ": one device at a time" : "");
	return error == EBUSY ? BUSY : FAILED;
}

/* Connects to the server of that name. */
int reach(struct server *server)
{
	static const struct {
		const char *kind;
		int (*connect)(struct server *server, const char *text);
	} kinds[] = {
		{"tcp:", connect_tcp},
		{"vsock:", connect_vsock},
		{"unix:", connect_unix},
		{"serial:", open_serial},
	};
	size_t i;

	for (i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		size_t length = strlen(kinds[i].kind);

		if (!strncmp(server->name, kinds[i].kind, length))
			return kinds[i].connect(server, server->name + length);
	}
	return refuse(server, "no such kind of stream",
		      "write tcp:ADDRESS:PORT, vsock:CID:PORT, unix:PATH or serial:PATH");
}
