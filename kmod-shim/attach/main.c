// SPDX-License-Identifier: Apache-2.0
/*
 * Arguments, and the order of the steps.
 */
#include <getopt.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "attach.h"
#include "usbip.h"

static const char usage_text[] =
	"usage: vusb-attach [-d] STREAM BUSID    attach that device\n"
	"       vusb-attach -l STREAM            list what there is\n"
	"       vusb-attach -h                   show this\n"
	"\n"
	"STREAM is tcp:ADDRESS:PORT, vsock:CID:PORT, unix:PATH or serial:PATH, a port such as\n"
	"/dev/virtio-ports/org.vusb.usbip.0. At a serial port it stays until the end of the device,\n"
	"with -d in the background; elsewhere the kernel has the connection. vhci-hcd must be loaded.\n"
	"Ends with 0 done, 1 failed, 2 wrong arguments, 4 in use.\n";

static int show_usage(int fd, int result)
{
	return write(fd, usage_text, sizeof(usage_text) - 1) < 0 ? FAILED : result;
}

static int attach_device(struct server *server, const char *busid, bool is_background)
{
	struct device device = {0};
	int result = import(server, busid, &device);

	if (result != OK)
		return result;
	if (server->is_serial)
		result = attach_serial(server, &device, is_background);
	else
		result = attach(&device, server->fd);
	if (result != OK)
		bid_farewell(server);
	return result;
}

/* Without a busid, lists what there is. */
static int run(struct server *server, const char *busid, bool is_background)
{
	int result = busid ? find_vhci() : OK;

	if (result == OK)
		result = reach(server);
	if (result != OK)
		return result;
	return busid ? attach_device(server, busid, is_background) : list(server);
}

static bool is_busid(const char *text)
{
	return *text && strlen(text) < USBIP_BUSID;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"help", no_argument, NULL, 'h'}, {0}};
	struct server server = {.fd = -1};
	bool is_background = false, lists = false;
	int option;

	while ((option = getopt_long(argc, argv, "dlh", options, NULL)) != -1) {
		switch (option) {
		case 'd':
			is_background = true;
			break;
		case 'l':
			lists = true;
			break;
		case 'h':
			return show_usage(STDOUT_FILENO, OK);
		default:
			return show_usage(STDERR_FILENO, USAGE);
		}
	}
	if (argc - optind != (lists ? 1 : 2) || (!lists && !is_busid(argv[optind + 1])))
		return show_usage(STDERR_FILENO, USAGE);
	signal(SIGPIPE, SIG_IGN);
	server.name = argv[optind];
	return run(&server, lists ? NULL : argv[optind + 1], is_background);
}
