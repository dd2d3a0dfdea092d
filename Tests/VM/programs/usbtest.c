// SPDX-License-Identifier: Apache-2.0
//
// usbtest NODE TEST[:ITERATIONS[:LENGTH[:VARY[:SGLEN]]]]...
//
// Runs tests of the kernel's usbtest driver, which must be bound to interface 0 of the device at NODE. The numbers are
// those of drivers/usb/misc/usbtest.c; what isn't given is 100 iterations, 1024 bytes, vary 512, 32 buffers. A line
// for each: `TEST ran MICROSECONDS`, `TEST skipped` where the device lacks what it takes, `TEST failed ERRNO`. Exits
// with 1 if one failed. The driver says nothing by itself, so whoever wants to know must count.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/usbdevice_fs.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

// struct usbtest_param_64 of usbtest.c; it is in no header.
struct usbtest_param {
    uint32_t test_num, iterations, length, vary, sglen;
    int64_t duration_sec, duration_usec;
};
#define USBTEST_REQUEST _IOWR('U', 100, struct usbtest_param)

static int parse(const char *text, struct usbtest_param *param)
{
    int count = sscanf(text, "%u:%u:%u:%u:%u", &param->test_num, &param->iterations, &param->length, &param->vary,
                       &param->sglen);
    return count >= 1;
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: usbtest NODE TEST[:ITERATIONS[:LENGTH[:VARY[:SGLEN]]]]...\n");
        return 2;
    }
    int fd = open(argv[1], O_RDWR);
    if (fd < 0) {
        fprintf(stderr, "%s: %s\n", argv[1], strerrorname_np(errno));
        return 1;
    }
    int failed = 0;
    for (int i = 2; i < argc; i++) {
        struct usbtest_param param = {.iterations = 100, .length = 1024, .vary = 512, .sglen = 32};
        if (!parse(argv[i], &param)) {
            fprintf(stderr, "not a test: %s\n", argv[i]);
            return 2;
        }
        struct usbdevfs_ioctl request = {.ifno = 0, .ioctl_code = (int)USBTEST_REQUEST, .data = &param};
        if (ioctl(fd, USBDEVFS_IOCTL, &request) >= 0) {
            printf("%u ran %lld\n", param.test_num, (long long)(param.duration_sec * 1000000 + param.duration_usec));
        } else if (errno == EOPNOTSUPP) {
            printf("%u skipped\n", param.test_num);
        } else {
            printf("%u failed %s\n", param.test_num, strerrorname_np(errno));
            failed = 1;
        }
        fflush(stdout);
    }
    close(fd);
    return failed;
}
