// SPDX-License-Identifier: Apache-2.0
/*
 * A device at a serial port. The kernel takes stream sockets alone: it gets one, whose other end is pumped to and from
 * the port.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "attach.h"
#include "usbip.h"

/* Milliseconds, for the rest of a frame that was begun. */
#define REST_LIMIT	5000
/* To begin with, and the most that a frame of this kernel's may have: longer transfers than vusbd takes. */
#define FRAME_ROOM	(1024 * 1024)
#define FRAME_LIMIT	(32u << 20)

#define ENDS		(POLLHUP | POLLERR)

/* What goes from the kernel to the port: whole frames, so that one that breaks off half-way is never begun there. */
struct frame {
	unsigned char *bytes;
	size_t room;
	size_t have;
	size_t need;
	size_t sent;
};

/* What goes from the port to the kernel. */
struct chunk {
	unsigned char bytes[65536];
	size_t have;
	size_t sent;
};

struct flow {
	const struct server *server;
	int kernel;
	struct frame up;
	struct chunk down;
};

enum {
	KERNEL,
	PORT,
	SIDES,
};

/* Of a frame whose header has come. */
static size_t frame_bytes(const unsigned char *header)
{
	size_t count = USBIP_HEADER;
	uint32_t packets = word(header + 32);

	if (word(header) != USBIP_COMMAND_SUBMIT)
		return count;
	if (!word(header + 12))
		count += word(header + 24);
	if (packets != (uint32_t)USBIP_NO_PACKETS)
		count += (size_t)packets * USBIP_PACKET;
	return count;
}

/* Return: -1 for a frame that's too long. */
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

static bool is_whole(const struct frame *frame)
{
	return frame->have == frame->need;
}

/* Return: -1 at the end of the kernel's side. */
static int read_frame(struct frame *frame, int kernel)
{
	ssize_t got = read(kernel, frame->bytes + frame->have, frame->need - frame->have);

	if (got < 0 && is_passing())
		return 0;
	if (got <= 0)
		return -1;
	frame->have += (size_t)got;
	if (frame->have == USBIP_HEADER) {
		frame->need = frame_bytes(frame->bytes);
		return make_room(frame);
	}
	return 0;
}

/* Return: -1 at the end of the port's side. */
static int send_frame(struct frame *frame, int port)
{
	ssize_t put = write(port, frame->bytes + frame->sent, frame->have - frame->sent);

	if (put < 0)
		return is_passing() ? 0 : -1;
	frame->sent += (size_t)put;
	if (frame->sent == frame->need) {
		frame->have = 0;
		frame->sent = 0;
		frame->need = USBIP_HEADER;
	}
	return 0;
}

static bool is_waiting(const struct chunk *chunk)
{
	return chunk->sent < chunk->have;
}

/* Return: -1 at the end of the port's side. */
static int read_chunk(struct chunk *chunk, int port)
{
	ssize_t got = read(port, chunk->bytes, sizeof(chunk->bytes));

	if (got < 0)
		return is_passing() ? 0 : -1;
	chunk->have = (size_t)got;
	chunk->sent = 0;
	return got ? 0 : -1;
}

/* Return: -1 at the end of the kernel's side. */
static int send_chunk(struct chunk *chunk, int kernel)
{
	ssize_t put = write(kernel, chunk->bytes + chunk->sent, chunk->have - chunk->sent);

	if (put < 0)
		return is_passing() ? 0 : -1;
	chunk->sent += (size_t)put;
	return 0;
}

/* A hang-up counts once all that came before it has been read. Return: -1 at the end of the port's side. */
static int serve_port(struct flow *flow, short events)
{
	int result = 0;

	if (events & (POLLIN | ENDS) && !is_waiting(&flow->down))
		result = read_chunk(&flow->down, flow->server->fd);
	if (events & POLLOUT && send_frame(&flow->up, flow->server->fd) < 0)
		result = -1;
	return result;
}

/* What a socket that was hung up has yet is read first. Return: -1 at the end of the kernel's side. */
static int serve_kernel(struct flow *flow, short events)
{
	int result = 0;

	if (!is_whole(&flow->up) && events & (POLLIN | ENDS))
		result = read_frame(&flow->up, flow->kernel);
	else if (events & ENDS)
		result = -1;
	if (is_waiting(&flow->down) && send_chunk(&flow->down, flow->kernel) < 0)
		result = -1;
	return result;
}

/*
 * What is waited for next. poll() tells of a hang-up whatever it's asked: one that can't be acted on yet isn't asked
 * for again at once.
 */
static void choose_events(const struct flow *flow, struct pollfd *entries)
{
	bool up = is_whole(&flow->up), down = is_waiting(&flow->down);

	entries[KERNEL].events = (short)((up ? 0 : POLLIN) | (down ? POLLOUT : 0));
	entries[PORT].events = (short)((up ? POLLOUT : 0) | (down ? 0 : POLLIN));
	entries[PORT].fd = down && entries[PORT].revents & ENDS ? -1 : flow->server->fd;
}

/* Moves bytes both ways until a side ends. Return: that side, the port where it's both. */
static int move(struct flow *flow)
{
	struct pollfd entries[SIDES] = {[KERNEL] = {.fd = flow->kernel}};
	int kernel = 0, port = 0;

	do {
		choose_events(flow, entries);
		if (poll(entries, SIDES, -1) < 0) {
			if (errno == EINTR)
				continue;
			return KERNEL;
		}
		port = serve_port(flow, entries[PORT].revents);
		kernel = serve_kernel(flow, entries[KERNEL].revents);
	} while (!port && !kernel);
	return port ? PORT : KERNEL;
}

/* Returns when a side has ended, and the other one was told. */
static void pump(int kernel, const struct server *server)
{
	struct flow flow = {
		.server = server,
		.kernel = kernel,
		.up = {.bytes = malloc(FRAME_ROOM), .room = FRAME_ROOM, .need = USBIP_HEADER},
	};
	struct frame *up = &flow.up;

	if (up->bytes) {
		if (move(&flow) == PORT)
			return;
		/* One that is whole, or half sent, is sent yet; of another one nothing has been. */
		if (is_whole(up) && give(server->fd, up->bytes + up->sent, up->need - up->sent, now() + REST_LIMIT) < 0)
			return;
	}
	bid_farewell(server);
}

static int to_background(void)
{
	pid_t child = fork();
	int null, fd;

	if (child < 0) {
		say("fork: ", strerror(errno));
		return -1;
	}
	if (child > 0)
		_exit(OK);
	setsid();
	/* Who has started this waits for the end of its output. */
	null = open("/dev/null", O_RDWR);
	if (null >= 0)
		for (fd = 0; fd < 3; fd++)
			dup2(null, fd);
	return chdir("/");
}

int attach_serial(const struct server *server, const struct device *device, bool is_background)
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
