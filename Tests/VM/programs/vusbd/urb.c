// SPDX-License-Identifier: Apache-2.0
//
// urb read FILE SIZE [COUNT]     each read(2) is one IN URB; its bytes go to standard output
// urb write FILE                 standard input, whole, is one OUT URB
// urb control FILE HEX [SIZE]    writes setup bytes (and data) to a control file, then reads up to SIZE bytes
// urb hold FILE                  opens the file, prints `open`, and reads standard input to its end
//
// A failure is printed as FILE: ERRNO and ends with 1.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { largest_transfer = 1 << 20 };
static unsigned char buffer[largest_transfer + 1];

static int failed(const char *file)
{
    fprintf(stderr, "%s: %s\n", file, strerrorname_np(errno));
    return 1;
}

static int put_all(const unsigned char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t n = write(STDOUT_FILENO, bytes, length);
        if (n <= 0)
            return -1;
        bytes += n;
        length -= (size_t)n;
    }
    return 0;
}

static int read_urbs(const char *file, size_t size, long count)
{
    int fd = open(file, O_RDONLY);
    if (fd < 0)
        return failed(file);
    for (; count > 0; count--) {
        ssize_t n = read(fd, buffer, size);
        if (n < 0)
            return failed(file);
        if (put_all(buffer, (size_t)n) != 0)
            return failed("standard output");
    }
    return 0;
}

static int write_urb(const char *file)
{
    size_t length = fread(buffer, 1, sizeof buffer, stdin);
    int fd = open(file, O_WRONLY);
    if (fd < 0)
        return failed(file);
    ssize_t n = write(fd, buffer, length);
    if (n < 0)
        return failed(file);
    if ((size_t)n != length) {
        fprintf(stderr, "%s: %zd of %zu bytes\n", file, n, length);
        return 1;
    }
    return 0;
}

static size_t parse_hex(const char *text)
{
    size_t length = 0;
    unsigned byte;
    for (; sscanf(text, "%2x", &byte) == 1 && length < sizeof buffer; text += text[1] ? 2 : 1)
        buffer[length++] = (unsigned char)byte;
    return length;
}

static int control(const char *file, const char *hex, size_t size)
{
    int fd = open(file, O_RDWR);
    if (fd < 0)
        return failed(file);
    if (write(fd, buffer, parse_hex(hex)) < 0)
        return failed(file);
    if (size == 0)
        return 0;
    ssize_t n = read(fd, buffer, size);
    if (n < 0)
        return failed(file);
    return put_all(buffer, (size_t)n) == 0 ? 0 : failed("standard output");
}

static int hold(const char *file)
{
    int fd = open(file, O_RDWR);
    if (fd < 0)
        return failed(file);
    puts("open");
    fflush(stdout);
    while (read(STDIN_FILENO, buffer, sizeof buffer) > 0)
        continue;
    return 0;
}

int main(int argc, char **argv)
{
    const char *what = argc > 2 ? argv[1] : "";
    size_t size = argc > 3 ? strtoul(argv[3], NULL, 0) : 0;
    if (strcmp(what, "read") == 0 && argc >= 4 && size <= largest_transfer)
        return read_urbs(argv[2], size, argc > 4 ? strtol(argv[4], NULL, 0) : 1);
    if (strcmp(what, "write") == 0 && argc == 3)
        return write_urb(argv[2]);
    if (strcmp(what, "control") == 0 && argc >= 4)
        return control(argv[2], argv[3], argc > 4 ? strtoul(argv[4], NULL, 0) : 0);
    if (strcmp(what, "hold") == 0 && argc == 3)
        return hold(argv[2]);
    fputs("usage: urb read FILE SIZE [COUNT] | write FILE | control FILE HEX [SIZE] | hold FILE\n", stderr);
    return 2;
}
