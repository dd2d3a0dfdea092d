// SPDX-License-Identifier: Apache-2.0
//
// pattern FILE SIZE PACKET    reads FILE, an endpoint file of a source with pattern mod63 and packets of PACKET bytes, with
//                             URBs of SIZE bytes until SIGTERM, and opens it again whenever that ends
//
// Then prints how many reads were whole and which errors the others had, as `whole 12 ENODEV 3`. A read that is short or
// has a wrong byte is printed, and ends with 1.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { largest_transfer = 1 << 19, errnos = 256 };
static unsigned char buffer[largest_transfer];
static unsigned long whole, errors[errnos];
static volatile sig_atomic_t is_over;

static void end(int signal)
{
    (void)signal;
    is_over = 1;
}

static void note_error(void) { errors[errno < errnos ? errno : 0]++; }

// Returns 0 where the read is neither whole nor has failed.
static int read_once(int fd, size_t size, size_t packet)
{
    memset(buffer, 0xff, size);
    ssize_t n = read(fd, buffer, size);

    if (n < 0) {
        note_error();
        return 1;
    }
    if ((size_t)n != size) {
        fprintf(stderr, "a read of %zu bytes had %zd\n", size, n);
        return 0;
    }
    for (size_t i = 0; i < size; i++)
        if (buffer[i] != i % packet % 63) {
            fprintf(stderr, "byte %zu of %zu is %u\n", i, size, buffer[i]);
            return 0;
        }
    whole++;
    return 1;
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = end};
    struct timespec a_moment = {0, 20000000};
    int is_right = 1;

    if (argc != 4) {
        fputs("usage: pattern FILE SIZE PACKET\n", stderr);
        return 2;
    }
    size_t size = (size_t)atol(argv[2]), packet = (size_t)atol(argv[3]);
    if (size == 0 || size > largest_transfer || packet == 0)
        return 2;
    sigaction(SIGTERM, &action, NULL);
    while (!is_over && is_right) {
        int fd = open(argv[1], O_RDONLY);

        if (fd < 0) {
            note_error();
            // It isn't there, or not to be had: tried again, not as fast as possible.
            nanosleep(&a_moment, NULL);
            continue;
        }
        unsigned long before;
        do {
            before = whole;
            is_right = read_once(fd, size, packet);
        } while (!is_over && is_right && whole != before);
        close(fd);
    }
    printf("whole %lu", whole);
    for (int i = 0; i < errnos; i++)
        if (errors[i] != 0)
            printf(" %s %lu", i == 0 ? "other" : strerrorname_np(i), errors[i]);
    printf("\n");
    return !is_right;
}
