// SPDX-License-Identifier: Apache-2.0
//
// lu-disk VID:PID read         all sectors to standard output, as many as READ CAPACITY says
// lu-disk VID:PID write LBA    standard input, whole sectors, to the disk, then SYNCHRONIZE CACHE
//
// Mass storage by libusb: the bulk-only transport ("USB Mass Storage Class, Bulk-Only Transport", 1.0) of interface 0.
// What goes wrong is named, and ends with 1.
#include "device.h"
#include <stdint.h>

enum { sector_size = 512, sectors_per_command = 256, command_wrapper_size = 31, status_wrapper_size = 13 };
enum { limit = 10000 };
enum opcode { TEST_UNIT_READY = 0, REQUEST_SENSE = 0x03, READ_CAPACITY = 0x25, READ_10 = 0x28, WRITE_10 = 0x2a,
              SYNCHRONIZE_CACHE = 0x35 };

static libusb_device_handle *disk;
static unsigned char bulk_in, bulk_out, data[sectors_per_command * sector_size];
static uint32_t tag;

static void find_endpoints(void)
{
    struct libusb_config_descriptor *configuration;

    must(libusb_get_active_config_descriptor(libusb_get_device(disk), &configuration), "configuration");
    const struct libusb_interface_descriptor *interface = configuration->interface[0].altsetting;

    expect(interface->bInterfaceClass == LIBUSB_CLASS_MASS_STORAGE && interface->bInterfaceProtocol == 0x50,
           "interface 0 has the bulk-only transport");
    for (int i = 0; i < interface->bNumEndpoints; i++) {
        unsigned char address = interface->endpoint[i].bEndpointAddress;

        *(address & LIBUSB_ENDPOINT_IN ? &bulk_in : &bulk_out) = address;
    }
    libusb_free_config_descriptor(configuration);
}

static void put_le32(unsigned char *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (unsigned char)(v >> (8 * i));
}

static uint32_t get_be32(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void move(unsigned char endpoint, unsigned char *bytes, uint32_t length, const char *what)
{
    int count;

    must(libusb_bulk_transfer(disk, endpoint, bytes, (int)length, &count, limit), what);
    expect((uint32_t)count == length, what);
}

// One command with its data, which `data` holds; returns its status, 0 if it's good.
static int command(const unsigned char *bytes, unsigned char length, uint32_t data_length, unsigned char endpoint)
{
    unsigned char wrapper[command_wrapper_size] = {'U', 'S', 'B', 'C'}, status[status_wrapper_size], its_tag[4];

    put_le32(wrapper + 4, ++tag);
    put_le32(wrapper + 8, data_length);
    wrapper[12] = endpoint & LIBUSB_ENDPOINT_IN;
    wrapper[14] = length;
    memcpy(wrapper + 15, bytes, length);
    move(bulk_out, wrapper, sizeof wrapper, "command wrapper");
    if (data_length > 0)
        move(endpoint, data, data_length, "data");
    move(bulk_in, status, sizeof status, "status wrapper");
    put_le32(its_tag, tag);
    expect(memcmp(status, "USBS", 4) == 0 && memcmp(status + 4, its_tag, 4) == 0, "the status is of this command");
    return status[12];
}

// A fresh disk has a unit attention to say first.
static void make_ready(void)
{
    const unsigned char ready[6] = {TEST_UNIT_READY}, sense[6] = {REQUEST_SENSE, 0, 0, 0, 18};

    for (int attempt = 0; attempt < 5; attempt++) {
        if (command(ready, sizeof ready, 0, 0) == 0)
            return;
        expect(command(sense, sizeof sense, 18, bulk_in) == 0, "REQUEST SENSE is good");
    }
    expect(0, "the disk becomes ready");
}

static uint32_t capacity(void)
{
    const unsigned char bytes[10] = {READ_CAPACITY};

    expect(command(bytes, sizeof bytes, 8, bulk_in) == 0, "READ CAPACITY is good");
    expect(get_be32(data + 4) == sector_size, "sectors have 512 bytes");
    return get_be32(data) + 1;
}

static void move_sectors(enum opcode opcode, uint32_t lba, uint32_t count)
{
    const unsigned char bytes[10] = {(unsigned char)opcode, 0, (unsigned char)(lba >> 24), (unsigned char)(lba >> 16),
                                     (unsigned char)(lba >> 8), (unsigned char)lba, 0, (unsigned char)(count >> 8),
                                     (unsigned char)count};

    expect(command(bytes, sizeof bytes, count * sector_size, opcode == READ_10 ? bulk_in : bulk_out) == 0,
           opcode == READ_10 ? "READ(10) is good" : "WRITE(10) is good");
}

static void read_all(void)
{
    uint32_t count = capacity();

    for (uint32_t lba = 0, part; lba < count; lba += part) {
        part = count - lba < sectors_per_command ? count - lba : sectors_per_command;
        move_sectors(READ_10, lba, part);
        expect(fwrite(data, sector_size, part, stdout) == part, "what was read is printed");
    }
    expect(fflush(stdout) == 0, "what was read is printed");
}

static void write_sectors(uint32_t lba)
{
    const unsigned char synchronize[10] = {SYNCHRONIZE_CACHE};
    size_t part;

    for (; (part = fread(data, sector_size, sectors_per_command, stdin)) > 0; lba += (uint32_t)part)
        move_sectors(WRITE_10, lba, (uint32_t)part);
    expect(command(synchronize, sizeof synchronize, 0, 0) == 0, "SYNCHRONIZE CACHE is good");
}

int main(int argc, char **argv)
{
    const char *what = argc > 2 ? argv[2] : "";

    if (argc < 3)
        return 2;
    disk = open_listed(argv[1]);
    find_endpoints();
    must(libusb_claim_interface(disk, 0), "claim");
    make_ready();
    if (strcmp(what, "read") == 0)
        read_all();
    else if (strcmp(what, "write") == 0 && argc == 4)
        write_sectors((uint32_t)strtoul(argv[3], NULL, 0));
    else
        return 2;
    close_listed(disk);
    return 0;
}
