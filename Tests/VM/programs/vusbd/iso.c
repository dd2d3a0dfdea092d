// SPDX-License-Identifier: Apache-2.0
//
// iso write FILE PACKETS SIZE    standard input as isochronous OUT URBs of PACKETS packets of SIZE bytes each
//
// One write(2) is one URB: a header and a table as the project's NodeProtocol article has them, then the bytes.
// Prints how many URBs it sent. A failure is printed as FILE: ERRNO and ends with 1.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { most_packets = 128, largest_packet = 3072, header_size = 16, entry_size = 8 };

static uint8_t frame[header_size + most_packets * (entry_size + largest_packet)];

static void put_le32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

// Fills header and table for `payload` bytes, returns the frame's size. The last packet may be short.
static size_t make_frame(size_t payload, uint32_t packets, uint32_t size)
{
    size_t left = payload;
    memset(frame, 0, header_size + packets * (size_t)entry_size);
    put_le32(frame, packets);
    for (uint32_t i = 0; i < packets; i++) {
        uint32_t length = left < size ? (uint32_t)left : size;
        put_le32(frame + header_size + i * entry_size, length);
        left -= length;
    }
    return header_size + packets * (size_t)entry_size + payload;
}

int main(int argc, char **argv)
{
    uint32_t packets = argc == 5 ? (uint32_t)strtoul(argv[3], NULL, 0) : 0;
    uint32_t size = argc == 5 ? (uint32_t)strtoul(argv[4], NULL, 0) : 0;
    if (argc != 5 || strcmp(argv[1], "write") != 0 || packets < 1 || packets > most_packets || size < 1 ||
        size > largest_packet) {
        fputs("usage: iso write FILE PACKETS SIZE\n", stderr);
        return 2;
    }
    int fd = open(argv[2], O_WRONLY), urbs = 0;
    uint8_t *payload = frame + header_size + packets * (size_t)entry_size;
    size_t length;
    while (fd >= 0 && (length = fread(payload, 1, packets * (size_t)size, stdin)) > 0) {
        size_t frame_size = make_frame(length, packets, size);
        if (write(fd, frame, frame_size) != (ssize_t)frame_size) {
            fd = -1;
            break;
        }
        urbs++;
    }
    if (fd < 0) {
        fprintf(stderr, "%s: %s\n", argv[2], strerrorname_np(errno));
        return 1;
    }
    printf("%d\n", urbs);
    return 0;
}
