// SPDX-License-Identifier: Apache-2.0
//
// hold NODE INTERFACE ENDPOINT COUNT BYTES: takes an interface from its driver through usbfs, submits so many bulk reads,
// which nobody answers, prints `held`, and waits until it is killed.
#include <fcntl.h>
#include <linux/usbdevice_fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

static void hold(const char *node, int fd, unsigned char endpoint, int bytes)
{
    // Never freed: the kernel fills them as long as the process is there.
    struct usbdevfs_urb *urb = calloc(1, sizeof *urb);
    void *buffer = malloc(bytes);
    if (!urb || !buffer)
        exit(1);
    urb->type = USBDEVFS_URB_TYPE_BULK;
    urb->endpoint = endpoint;
    urb->buffer = buffer;
    urb->buffer_length = bytes;
    if (ioctl(fd, USBDEVFS_SUBMITURB, urb) != 0) {
        perror(node);
        exit(1);
    }
}

int main(int argc, char **argv)
{
    if (argc != 6)
        return 2;
    struct usbdevfs_disconnect_claim claim = {.interface = (unsigned)strtoul(argv[2], NULL, 0)};
    int fd = open(argv[1], O_RDWR);
    if (fd < 0 || ioctl(fd, USBDEVFS_DISCONNECT_CLAIM, &claim) != 0) {
        perror(argv[1]);
        return 1;
    }
    for (int count = atoi(argv[4]); count > 0; count--)
        hold(argv[1], fd, (unsigned char)strtoul(argv[3], NULL, 0), atoi(argv[5]));
    puts("held");
    fflush(stdout);
    for (;;)
        pause();
}
