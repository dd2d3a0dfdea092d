// SPDX-License-Identifier: Apache-2.0
/*
 * vhci-hcd as sysfs has it: a table of ports, and a file that takes a socket.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "attach.h"

/* A test has its own. */
#ifndef VHCI
#define VHCI	"/sys/devices/platform/vhci_hcd.0/"
#endif

#define MOST_CONTROLLERS	128

/* As much of a file as there is room for. Return: its length, or -1. */
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

/* Return: OK where it's there and may be used, FAILED. */
int find_vhci(void)
{
	if (access(VHCI "attach", W_OK) == 0)
		return OK;
	if (errno == ENOENT)
		say("no vhci-hcd here: modprobe vhci-hcd");
	else
		say(VHCI "attach: ", strerror(errno));
	return FAILED;
}

/* A line `hs 0000 004 ...`: hub, port, state; 4 is free. Return: the port where it's free and for that speed, or -1. */
static int64_t free_port_of(const char *line, uint32_t speed)
{
	if (strlen(line) < 11 || line[0] != (speed >= 5 ? 's' : 'h') || line[1] != 's')
		return -1;
	return strncmp(line + 8, " 004", 4) ? -1 : strtol(line + 4, NULL, 10);
}

/* The first from @from on. */
static int64_t free_port_in(const char *text, uint32_t speed, int64_t from)
{
	while (text) {
		int64_t port = free_port_of(text, speed);

		if (port >= from)
			return port;
		text = strchr(text, '\n');
		text = text ? text + 1 : NULL;
	}
	return -1;
}

/* In all controllers, which have a table each: status, status.1... */
static int64_t free_port(uint32_t speed, int64_t from)
{
	char text[16384], path[64];
	struct number number;
	uint32_t i;

	for (i = 0; i < MOST_CONTROLLERS; i++) {
		int64_t port;

		strcpy(path, VHCI "status");
		if (i) {
			strcat(path, ".");
			strcat(path, decimal(&number, i));
		}
		if (read_file(path, text, sizeof(text)) < 0)
			break;
		port = free_port_in(text, speed, from);
		if (port >= 0)
			return port;
	}
	return -1;
}

/* Return: 0, or -1 with errno. */
static int write_attach(uint32_t port, int fd, const struct device *device)
{
	char line[64] = "";
	uint32_t values[] = {port, (uint32_t)fd, device->id, device->speed};
	int file = open(VHCI "attach", O_WRONLY | O_CLOEXEC);
	ssize_t written;
	int i, error;

	if (file < 0)
		return -1;
	for (i = 0; i < 4; i++) {
		struct number number;

		strcat(line, decimal(&number, values[i]));
		strcat(line, i < 3 ? " " : "\n");
	}
	written = write(file, line, strlen(line));
	error = errno;
	close(file);
	errno = error;
	return written < 0 ? -1 : 0;
}

/* Gives the kernel a socket. Somebody else may take a port between the look and this. */
int attach(const struct device *device, int fd)
{
	struct number number;
	int64_t port = -1;

	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
	while ((port = free_port(device->speed, port + 1)) >= 0) {
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
