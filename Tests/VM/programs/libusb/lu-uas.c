// SPDX-License-Identifier: Apache-2.0
//
// lu-uas VID:PID read LBA COUNT    sectors to standard output
// lu-uas VID:PID write LBA         standard input, whole sectors, to the disk, then SYNCHRONIZE CACHE
//
// A super-speed disk by libusb and "USB Attached SCSI" (T10/2095-D): a command has a tag, which is the number of the
// bulk stream that its data and its status come on; as many commands are on their way at once as the device has streams.
// Says on standard error what INQUIRY says, how many streams there are, and how often a command overtook one before it.
// What goes wrong is named, and ends with 1.
#include "device.h"
#include <stdint.h>

enum { sector_size = 512, most_streams = 16, command_size = 32, status_size = 128, limit = 20000 };
// What libusb sends as one URB wherever it is: QEMU's disk ends with QEMU when a stream has a second one for it.
enum { in_a_read = 65536, in_a_write = 16384 };
enum pipe { no_pipe, command_pipe, status_pipe, data_in, data_out, pipe_count };
enum { sense_iu = 3, good = 0, check_condition = 2 };
enum opcode { TEST_UNIT_READY = 0, INQUIRY = 0x12, READ_10 = 0x28, WRITE_10 = 0x2a, SYNCHRONIZE_CACHE = 0x35 };

// One command on its way: its tag is its place among the slots and 1.
struct slot {
    struct libusb_transfer *command, *data, *status;
    unsigned char command_unit[command_size], status_unit[status_size];
    int running, length, serial;
};

static libusb_device_handle *disk;
static unsigned char pipes[pipe_count], *bytes;
static struct slot slots[most_streams];
static int streams, setting;
// How many commands have begun and ended, and how often one ended before an older one.
static int begun, ended, overtaken;

// What is behind an endpoint's descriptor says which pipe it is: 04 24 PIPE 00.
static enum pipe pipe_of(const struct libusb_endpoint_descriptor *endpoint)
{
    for (int at = 0; at + 2 < endpoint->extra_length && endpoint->extra[at] > 0; at += endpoint->extra[at])
        if (endpoint->extra[at + 1] == 0x24 && endpoint->extra[at + 2] < pipe_count)
            return endpoint->extra[at + 2];
    return no_pipe;
}

static void find_pipes(void)
{
    struct libusb_config_descriptor *configuration;

    must(libusb_get_active_config_descriptor(libusb_get_device(disk), &configuration), "configuration");
    for (int i = 0; i < configuration->interface[0].num_altsetting; i++) {
        const struct libusb_interface_descriptor *interface = &configuration->interface[0].altsetting[i];

        if (interface->bInterfaceProtocol != 0x62)
            continue;
        setting = interface->bAlternateSetting;
        for (int j = 0; j < interface->bNumEndpoints; j++)
            pipes[pipe_of(&interface->endpoint[j])] = interface->endpoint[j].bEndpointAddress;
    }
    libusb_free_config_descriptor(configuration);
    for (int i = command_pipe; i < pipe_count; i++)
        expect(pipes[i] != 0, "the disk has UAS and its four pipes");
}

static void begin(void)
{
    must(libusb_claim_interface(disk, 0), "claim");
    if (setting != 0)
        must(libusb_set_interface_alt_setting(disk, 0, setting), "alternate setting");
    streams = libusb_alloc_streams(disk, most_streams, pipes + status_pipe, 3);
    must(streams, "streams");
    expect(streams > 1 && streams <= most_streams, "there are streams, and no more than were asked for");
    fprintf(stderr, "%d streams\n", streams);
    for (int i = 0; i < streams; i++) {
        slots[i].command = libusb_alloc_transfer(0);
        slots[i].data = libusb_alloc_transfer(0);
        slots[i].status = libusb_alloc_transfer(0);
    }
}

static void end(void)
{
    for (int i = 0; i < streams; i++) {
        libusb_free_transfer(slots[i].command);
        libusb_free_transfer(slots[i].data);
        libusb_free_transfer(slots[i].status);
    }
    must(libusb_free_streams(disk, pipes + status_pipe, 3), "free streams");
    must(libusb_release_interface(disk, 0), "release");
    close_listed(disk);
}

static void done(struct libusb_transfer *transfer)
{
    struct slot *slot = transfer->user_data;

    if (transfer->status != LIBUSB_TRANSFER_COMPLETED)
        fprintf(stderr, "endpoint %02x, status %d\n", transfer->endpoint, transfer->status);
    expect(transfer->status == LIBUSB_TRANSFER_COMPLETED, "a transfer completed");
    if (--slot->running > 0)
        return;
    ended++;
    for (int i = 0; i < streams; i++)
        overtaken += slots[i].running > 0 && slots[i].serial < slot->serial;
}

static void submit(struct slot *slot, struct libusb_transfer *transfer)
{
    slot->running++;
    must(libusb_submit_transfer(transfer), "submit");
}

// Sends a command; its data go from or to `at`, if there are any.
static void start(struct slot *slot, const unsigned char *block, int size, unsigned char *at, int length)
{
    uint32_t tag = (uint32_t)(slot - slots) + 1;
    int is_out = block[0] == WRITE_10;

    memset(slot->command_unit, 0, command_size);
    slot->command_unit[0] = 1;
    slot->command_unit[3] = (unsigned char)tag;
    memcpy(slot->command_unit + 16, block, (size_t)size);
    slot->length = length;
    slot->serial = begun++;
    libusb_fill_bulk_stream_transfer(slot->status, disk, pipes[status_pipe], tag, slot->status_unit, status_size, done,
                                     slot, limit);
    libusb_fill_bulk_stream_transfer(slot->data, disk, pipes[is_out ? data_out : data_in], tag, at, length, done, slot,
                                     limit);
    libusb_fill_bulk_transfer(slot->command, disk, pipes[command_pipe], slot->command_unit, command_size, done, slot,
                              limit);
    submit(slot, slot->status);
    if (length > 0)
        submit(slot, slot->data);
    submit(slot, slot->command);
}

// The status of a command that has ended, which must be its own.
static int status_of(const struct slot *slot)
{
    expect(slot->status->actual_length >= 16 && slot->status_unit[0] == sense_iu, "the status is a SENSE IU");
    expect(slot->status_unit[3] == slot - slots + 1, "the status has the command's tag");
    return slot->status_unit[6];
}

static void wait_for(const struct slot *slot)
{
    while (slot->running > 0)
        must(libusb_handle_events(context), "libusb_handle_events");
}

// A command without others beside it.
static int command(const unsigned char *block, int size, unsigned char *at, int length)
{
    start(&slots[0], block, size, at, length);
    wait_for(&slots[0]);
    slots[0].length = 0;
    return status_of(&slots[0]);
}

static void inquire(void)
{
    const unsigned char inquiry[6] = {INQUIRY, 0, 0, 0, 36}, ready[6] = {TEST_UNIT_READY};
    unsigned char answer[36];
    int status = check_condition;

    expect(command(inquiry, sizeof inquiry, answer, sizeof answer) == good, "INQUIRY is good");
    fprintf(stderr, "%.28s\n", answer + 8);
    // A fresh disk has unit attentions to say first.
    for (int i = 0; i < 5 && status == check_condition; i++)
        status = command(ready, sizeof ready, NULL, 0);
    expect(status == good, "the disk becomes ready");
}

static void move_in(struct slot *slot, enum opcode opcode, uint32_t lba, size_t at, int length)
{
    int count = length / sector_size;
    const unsigned char block[10] = {(unsigned char)opcode, 0, (unsigned char)(lba >> 24), (unsigned char)(lba >> 16),
                                     (unsigned char)(lba >> 8), (unsigned char)lba, 0, (unsigned char)(count >> 8),
                                     (unsigned char)count};

    start(slot, block, sizeof block, bytes + at, length);
}

// All of `bytes`, in commands that go out as long as there is a stream for one.
static void move(enum opcode opcode, uint32_t lba, size_t size)
{
    size_t at = 0, most = opcode == READ_10 ? in_a_read : in_a_write;
    int is_running = 1;

    while (is_running) {
        is_running = 0;
        for (int i = 0; i < streams; i++) {
            struct slot *slot = &slots[i];

            if (slot->running == 0 && slot->length > 0) {
                expect(status_of(slot) == good, "a command is good");
                expect(slot->data->actual_length == slot->length, "its data are whole");
                slot->length = 0;
            }
            if (slot->running == 0 && at < size) {
                int length = (int)(size - at < most ? size - at : most);

                move_in(slot, opcode, lba + (uint32_t)(at / sector_size), at, length);
                at += (size_t)length;
            }
            is_running |= slot->running > 0;
        }
        if (is_running)
            must(libusb_handle_events(context), "libusb_handle_events");
    }
}

static void write_sectors(uint32_t lba)
{
    const unsigned char synchronize[10] = {SYNCHRONIZE_CACHE};
    size_t size = 0, part;

    do {
        bytes = realloc(bytes, size + in_a_read);
        part = fread(bytes + size, 1, in_a_read, stdin);
        size += part;
    } while (part > 0);
    expect(size % sector_size == 0, "there are whole sectors to be written");
    move(WRITE_10, lba, size);
    expect(command(synchronize, sizeof synchronize, NULL, 0) == good, "SYNCHRONIZE CACHE is good");
}

static void read_sectors(uint32_t lba, size_t size)
{
    bytes = malloc(size);
    memset(bytes, 0xee, size);
    move(READ_10, lba, size);
    expect(fwrite(bytes, 1, size, stdout) == size && fflush(stdout) == 0, "what was read is printed");
}

int main(int argc, char **argv)
{
    if (argc < 4)
        return 2;
    disk = open_listed(argv[1]);
    find_pipes();
    begin();
    inquire();
    if (strcmp(argv[2], "write") == 0)
        write_sectors((uint32_t)atol(argv[3]));
    else
        read_sectors((uint32_t)atol(argv[3]), argc > 4 ? (size_t)atol(argv[4]) * sector_size : 0);
    fprintf(stderr, "%d commands, %d overtakings\n", ended, overtaken);
    end();
    return 0;
}
