// SPDX-License-Identifier: Apache-2.0
//
// claim NODE INTERFACE: claims an interface through usbfs, prints `claimed`, and holds it until it is killed.
// For cases in which another program has what vusbd wants.
#include <fcntl.h>
#include <linux/usbdevice_fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    unsigned interface = (unsigned)strtoul(argv[2], NULL, 0);
    int fd = open(argv[1], O_RDWR);
    if (fd < 0 || ioctl(fd, USBDEVFS_CLAIMINTERFACE, &interface) != 0) {
        perror(argv[1]);
        return 1;
    }
    puts("claimed");
    fflush(stdout);
    for (;;)
        pause();
}
