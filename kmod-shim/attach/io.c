// SPDX-License-Identifier: Apache-2.0
/*
 * Saying things, time, and bytes of descriptors that don't block.
 */
#include <errno.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

#include "attach.h"

void say_all(int fd, const char *const *texts)
{
	char line[1024];
	size_t length = 0;
	const char *text;

	for (; *texts; texts++)
		for (text = *texts; *text && length < sizeof(line); text++)
			line[length++] = *text;
	/* Where nobody reads it, there is nobody to tell. */
	if (write(fd, line, length) < 0)
		return;
}

/* At least so many digits. */
static const char *digits(struct number *number, uint32_t value, uint32_t base, int least)
{
	char *next = number->text + sizeof(number->text);

	*--next = 0;
	for (; value || least > 0; least--, value /= base)
		*--next = "0123456789abcdef"[value % base];
	return next;
}

const char *decimal(struct number *number, uint32_t value)
{
	return digits(number, value, 10, 1);
}

/* Four digits, as ids of USB have them. */
const char *hexadecimal(struct number *number, uint32_t value)
{
	return digits(number, value, 16, 4);
}

/* Milliseconds. */
int64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

void nap(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
}

/* Whether errno says that it's to be tried again. */
bool is_passing(void)
{
	return errno == EAGAIN || errno == EINTR;
}

/* Whether the descriptor is ready, or has hung up, before the deadline; else errno says why not. */
bool is_ready(int fd, short events, int64_t deadline)
{
	struct pollfd entry = {.fd = fd, .events = events};
	int64_t rest;

	while ((rest = deadline - now()) > 0) {
		int count = poll(&entry, 1, (int)rest);

		if (count > 0)
			return true;
		if (count < 0 && errno != EINTR)
			return false;
	}
	errno = ETIMEDOUT;
	return false;
}

/* Return: 0, or -1 with errno; 0 there means that the other side has ended. */
int take(int fd, void *bytes, size_t count, int64_t deadline)
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

/* Return: 0, or -1 with errno. */
int give(int fd, const void *bytes, size_t count, int64_t deadline)
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
