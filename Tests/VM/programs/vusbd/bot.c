// SPDX-License-Identifier: Apache-2.0
//
// bot EP-IN EP-OUT capacity             prints the number of 512-byte sectors
// bot EP-IN EP-OUT read LBA COUNT       sectors to standard output
// bot EP-IN EP-OUT write LBA            standard input, whole sectors, to the disk, then SYNCHRONIZE CACHE
//
// Mass storage by plain file I/O: the bulk-only transport ("USB Mass Storage Class, Bulk-Only Transport", 1.0) over
// two endpoint files of a guest's tree. One write(2) is the command wrapper, reads or writes move the data, and one
// read(2) is the status wrapper. A failed call is printed as FILE: ERRNO; a failed command with its status.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    sector_size = 512,
    sectors_per_command = 128,
    command_wrapper_size = 31,
    status_wrapper_size = 13,
};

enum opcode { READ_CAPACITY = 0x25, READ_10 = 0x28, WRITE_10 = 0x2a, SYNCHRONIZE_CACHE = 0x35, TEST_UNIT_READY = 0 };

struct disk {
    const char *in_file, *out_file;
    int in, out;
    uint32_t tag;
};

static void die(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerrorname_np(errno));
    exit(1);
}

static void fail(const char *what, unsigned value)
{
    fprintf(stderr, "%s: %u\n", what, value);
    exit(1);
}

static void put_le32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

static uint32_t get_be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void send_command(struct disk *disk, const uint8_t *command, uint8_t length, uint32_t data, int is_in)
{
    uint8_t wrapper[command_wrapper_size] = {'U', 'S', 'B', 'C'};
    put_le32(wrapper + 4, ++disk->tag);
    put_le32(wrapper + 8, data);
    wrapper[12] = is_in ? 0x80 : 0;
    wrapper[14] = length;
    memcpy(wrapper + 15, command, length);
    if (write(disk->out, wrapper, sizeof wrapper) != sizeof wrapper)
        die(disk->out_file);
}

// The status of the command: 0 is good.
static uint8_t receive_status(struct disk *disk)
{
    uint8_t wrapper[status_wrapper_size], tag[4];
    ssize_t n = read(disk->in, wrapper, sizeof wrapper);
    if (n < 0)
        die(disk->in_file);
    put_le32(tag, disk->tag);
    if (n != sizeof wrapper || memcmp(wrapper, "USBS", 4) != 0 || memcmp(wrapper + 4, tag, 4) != 0)
        fail("not a status wrapper; length", (unsigned)n);
    return wrapper[12];
}

static void receive_data(struct disk *disk, uint8_t *data, size_t length)
{
    ssize_t n = read(disk->in, data, length);
    if (n < 0)
        die(disk->in_file);
    if ((size_t)n != length)
        fail("short data", (unsigned)n);
}

static void send_data(struct disk *disk, const uint8_t *data, size_t length)
{
    ssize_t n = write(disk->out, data, length);
    if (n < 0)
        die(disk->out_file);
    if ((size_t)n != length)
        fail("short write", (unsigned)n);
}

static void must_be_good(struct disk *disk, const char *what)
{
    uint8_t status = receive_status(disk);
    if (status != 0)
        fail(what, status);
}

// A fresh disk reports a unit attention once; ask until it is ready.
static void make_ready(struct disk *disk)
{
    const uint8_t test_unit_ready[6] = {TEST_UNIT_READY};
    const uint8_t request_sense[6] = {0x03, 0, 0, 0, 18};
    uint8_t sense[18];
    for (int attempt = 0; attempt < 5; attempt++) {
        send_command(disk, test_unit_ready, sizeof test_unit_ready, 0, 0);
        if (receive_status(disk) == 0)
            return;
        send_command(disk, request_sense, sizeof request_sense, sizeof sense, 1);
        receive_data(disk, sense, sizeof sense);
        must_be_good(disk, "REQUEST SENSE");
    }
    fail("not ready; sense key", sense[2] & 15);
}

static uint32_t capacity(struct disk *disk)
{
    const uint8_t command[10] = {READ_CAPACITY};
    uint8_t answer[8];
    send_command(disk, command, sizeof command, sizeof answer, 1);
    receive_data(disk, answer, sizeof answer);
    must_be_good(disk, "READ CAPACITY");
    if (get_be32(answer + 4) != sector_size)
        fail("sector size", get_be32(answer + 4));
    return get_be32(answer) + 1;
}

static void transfer_command(struct disk *disk, enum opcode opcode, uint32_t lba, uint16_t count)
{
    uint8_t command[10] = {(uint8_t)opcode, 0, (uint8_t)(lba >> 24), (uint8_t)(lba >> 16), (uint8_t)(lba >> 8),
                           (uint8_t)lba, 0, (uint8_t)(count >> 8), (uint8_t)count};
    send_command(disk, command, sizeof command, (uint32_t)count * sector_size, opcode == READ_10);
}

static void read_sectors(struct disk *disk, uint32_t lba, uint32_t count)
{
    static uint8_t data[sectors_per_command * sector_size];
    while (count > 0) {
        uint16_t part = count < sectors_per_command ? (uint16_t)count : sectors_per_command;
        transfer_command(disk, READ_10, lba, part);
        receive_data(disk, data, part * (size_t)sector_size);
        must_be_good(disk, "READ(10)");
        if (fwrite(data, sector_size, part, stdout) != part)
            die("standard output");
        lba += part;
        count -= part;
    }
    if (fflush(stdout) != 0)
        die("standard output");
}

static void write_sectors(struct disk *disk, uint32_t lba)
{
    static uint8_t data[sectors_per_command * sector_size];
    const uint8_t synchronize[10] = {SYNCHRONIZE_CACHE};
    size_t part;
    while ((part = fread(data, sector_size, sectors_per_command, stdin)) > 0) {
        transfer_command(disk, WRITE_10, lba, (uint16_t)part);
        send_data(disk, data, part * sector_size);
        must_be_good(disk, "WRITE(10)");
        lba += (uint32_t)part;
    }
    send_command(disk, synchronize, sizeof synchronize, 0, 0);
    must_be_good(disk, "SYNCHRONIZE CACHE");
}

int main(int argc, char **argv)
{
    const char *what = argc > 3 ? argv[3] : "";
    uint32_t lba = argc > 4 ? (uint32_t)strtoul(argv[4], NULL, 0) : 0;
    struct disk disk = {.in_file = argc > 2 ? argv[1] : "", .out_file = argc > 2 ? argv[2] : ""};
    if (argc < 4) {
        fputs("usage: bot EP-IN EP-OUT capacity | read LBA COUNT | write LBA\n", stderr);
        return 2;
    }
    disk.in = open(disk.in_file, O_RDONLY);
    if (disk.in < 0)
        die(disk.in_file);
    disk.out = open(disk.out_file, O_WRONLY);
    if (disk.out < 0)
        die(disk.out_file);
    make_ready(&disk);
    if (strcmp(what, "capacity") == 0)
        printf("%u\n", capacity(&disk));
    else if (strcmp(what, "read") == 0 && argc == 6)
        read_sectors(&disk, lba, (uint32_t)strtoul(argv[5], NULL, 0));
    else if (strcmp(what, "write") == 0 && argc == 5)
        write_sectors(&disk, lba);
    else
        return 2;
    return 0;
}
