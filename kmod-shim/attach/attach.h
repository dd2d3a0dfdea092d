/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vusb-attach: attaches a device of a USB/IP server to this machine's vhci-hcd, over TCP, vsock, a Unix socket or a
 * virtio serial port. Static and without stdio: it's copied into guests. Attach.md of VUSBVMM has what it does where
 * something is in the way.
 *
 * The server is believed nothing: what comes from it has a fixed length, or is compared with what may be before it's
 * used.
 */
#ifndef VUSB_ATTACH_H
#define VUSB_ATTACH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

/* How it ends, and what a step of it returns: what was in the way has been told then. */
enum {
	OK = 0,
	FAILED = 1,
	USAGE = 2,
	BUSY = 4,
};

struct server {
	const char *name;
	int fd;
	bool is_serial;
};

struct device {
	uint32_t id;
	uint32_t speed;
};

/* io.c */
#define say(...)	say_all(STDERR_FILENO, (const char *[]){"vusb-attach: ", __VA_ARGS__, "\n", NULL})
#define show(...)	say_all(STDOUT_FILENO, (const char *[]){__VA_ARGS__, "\n", NULL})

/* Room for the digits of a number. */
struct number {
	char text[12];
};

void say_all(int fd, const char *const *texts);
const char *decimal(struct number *number, uint32_t value);
const char *hexadecimal(struct number *number, uint32_t value);
int64_t now(void);
void nap(void);
bool is_passing(void);
bool is_ready(int fd, short events, int64_t deadline);
int take(int fd, void *bytes, size_t count, int64_t deadline);
int give(int fd, const void *bytes, size_t count, int64_t deadline);

/* connect.c */
int reach(struct server *server);

/* usbip.c */
int list(const struct server *server);
int import(const struct server *server, const char *busid, struct device *device);
void bid_farewell(const struct server *server);

/* vhci.c */
int find_vhci(void);
int attach(const struct device *device, int fd);

/* pump.c */
int attach_serial(const struct server *server, const struct device *device, bool is_background);

#endif
