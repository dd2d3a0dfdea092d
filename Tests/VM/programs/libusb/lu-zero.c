// SPDX-License-Identifier: Apache-2.0
//
// lu-zero [TRANSFERS]                  every type of transfer with an emulated Gadget Zero of pattern mod63, TRANSFERS
//                                      bulk ones of 16 KiB, and each eighth of 256, in each direction, 96 unless said
//                                      otherwise, 32 in flight
// lu-zero VID:PID TRANSFERS PACKET     control and bulk ones with a Gadget Zero that has no others, the kernel's on
//                                      dummy_hcd; PACKET: its bulk endpoints' packet size
//
// Prints the device's serial number, then what was moved and checked. What is wrong is named, and ends with 1.
#include "device.h"

enum { in_flight = 32, bulk_size = 16384, long_size = 262144, iso_transfers = 8, iso_packets = 32, packet_size = 1024 };

static libusb_device_handle *zero;
static int running, wrong, to_submit, bulk_packet = 512;
static long moved, wanted;

// The pattern begins anew with every packet.
static int is_pattern(const unsigned char *bytes, int count, int packet)
{
    for (int i = 0; i < count; i++)
        if (bytes[i] != i % packet % 63)
            return 0;
    return 1;
}

static void fill(unsigned char *bytes, int count, int packet)
{
    for (int i = 0; i < count; i++)
        bytes[i] = (unsigned char)(i % packet % 63);
}

static void bulk_done(struct libusb_transfer *transfer)
{
    int is_right = transfer->status == LIBUSB_TRANSFER_COMPLETED && transfer->actual_length == transfer->length;

    moved += transfer->actual_length;
    if (is_right && (transfer->endpoint & LIBUSB_ENDPOINT_IN)) {
        is_right = is_pattern(transfer->buffer, transfer->length, bulk_packet);
        // What isn't written by the next one must show.
        memset(transfer->buffer, 0xff, (unsigned)transfer->length);
    }
    wrong += !is_right;
    running--;
    if (!is_right || to_submit == 0)
        return;
    to_submit--;
    must(libusb_submit_transfer(transfer), "bulk, again");
    wanted += transfer->length;
    running++;
}

static void bulk(unsigned char endpoint, int count)
{
    struct libusb_transfer *transfers[in_flight];

    moved = wanted = 0;
    to_submit = count;
    for (int i = 0; i < in_flight; i++, to_submit--) {
        // Some are longer than what a character device of ours is given at a time.
        int size = i % 8 == 0 ? long_size : bulk_size;
        unsigned char *buffer = malloc((size_t)size);

        transfers[i] = libusb_alloc_transfer(0);
        fill(buffer, size, bulk_packet);
        libusb_fill_bulk_transfer(transfers[i], zero, endpoint, buffer, size, bulk_done, NULL, 0);
        transfers[i]->flags = LIBUSB_TRANSFER_FREE_BUFFER;
        must(libusb_submit_transfer(transfers[i]), "bulk");
        wanted += size;
        running++;
    }
    while (running > 0)
        must(libusb_handle_events(context), "libusb_handle_events");
    for (int i = 0; i < in_flight; i++)
        libusb_free_transfer(transfers[i]);
    expect(wrong == 0, "all bulk transfers were whole and right");
    expect(moved == wanted, "all bulk bytes were moved");
    printf("bulk %02x: %ld bytes\n", endpoint, moved);
}

static void control(void)
{
    unsigned char out[4096], in[4096] = {0};
    int count = sizeof out - 8;

    for (int i = 0; i < count; i++)
        out[i] = (unsigned char)(i * 7);
    expect(libusb_control_transfer(zero, 0x40, 0x5b, 0, 0, out, (uint16_t)count, 5000) == count, "control out is whole");
    expect(libusb_control_transfer(zero, 0xc0, 0x5c, 0, 0, in, (uint16_t)count, 5000) == count, "control in is whole");
    expect(memcmp(in, out, (size_t)count) == 0, "control returns what was written");
    expect(libusb_control_transfer(zero, 0xc0, 0x77, 0, 0, in, 8, 5000) == LIBUSB_ERROR_PIPE, "an unknown request stalls");
    printf("control: %d bytes\n", count);
}

static void iso_done(struct libusb_transfer *transfer)
{
    wrong += transfer->status != LIBUSB_TRANSFER_COMPLETED;
    for (int i = 0; i < transfer->num_iso_packets; i++) {
        struct libusb_iso_packet_descriptor *packet = &transfer->iso_packet_desc[i];

        wrong += packet->status != LIBUSB_TRANSFER_COMPLETED || packet->actual_length != packet_size;
        wrong += !is_pattern(libusb_get_iso_packet_buffer_simple(transfer, (unsigned)i), packet_size, packet_size);
        moved += packet->actual_length;
    }
    running--;
}

static void isochronous(unsigned char endpoint)
{
    struct libusb_transfer *transfers[iso_transfers];

    moved = 0;
    for (int i = 0; i < iso_transfers; i++) {
        unsigned char *buffer = calloc(iso_packets, packet_size);

        // What is sent is the pattern, too.
        if (!(endpoint & LIBUSB_ENDPOINT_IN))
            fill(buffer, iso_packets * packet_size, packet_size);
        transfers[i] = libusb_alloc_transfer(iso_packets);
        libusb_fill_iso_transfer(transfers[i], zero, endpoint, buffer, iso_packets * packet_size, iso_packets, iso_done,
                                 NULL, 0);
        transfers[i]->flags = LIBUSB_TRANSFER_FREE_BUFFER;
        libusb_set_iso_packet_lengths(transfers[i], packet_size);
        must(libusb_submit_transfer(transfers[i]), "isochronous");
        running++;
    }
    while (running > 0)
        must(libusb_handle_events(context), "libusb_handle_events");
    for (int i = 0; i < iso_transfers; i++)
        libusb_free_transfer(transfers[i]);
    expect(wrong == 0, "all isochronous packets were whole and right");
    expect(moved == iso_transfers * iso_packets * packet_size, "all isochronous bytes were moved");
    printf("isochronous %02x: %ld bytes\n", endpoint, moved);
}

static void interrupt(unsigned char endpoint)
{
    unsigned char bytes[packet_size];
    int count = 0;

    fill(bytes, packet_size, packet_size);
    if (endpoint & LIBUSB_ENDPOINT_IN)
        memset(bytes, 0xff, sizeof bytes);
    must(libusb_interrupt_transfer(zero, endpoint, bytes, packet_size, &count, 5000), "interrupt");
    expect(count == packet_size && is_pattern(bytes, count, packet_size), "the interrupt transfer is whole and right");
    printf("interrupt %02x: %d bytes\n", endpoint, count);
}

static void serial_number(void)
{
    struct libusb_device_descriptor descriptor;
    unsigned char text[64];

    must(libusb_get_device_descriptor(libusb_get_device(zero), &descriptor), "device descriptor");
    must(libusb_get_string_descriptor_ascii(zero, descriptor.iSerialNumber, text, sizeof text), "serial number");
    printf("serial %s\n", text);
}

static void other_settings(void)
{
    must(libusb_set_interface_alt_setting(zero, 0, 1), "alternate setting 1");
    isochronous(0x83);
    isochronous(0x04);
    must(libusb_set_interface_alt_setting(zero, 0, 2), "alternate setting 2");
    interrupt(0x85);
    interrupt(0x06);
    must(libusb_set_interface_alt_setting(zero, 0, 0), "alternate setting 0");
}

static void configure(void)
{
    int value = 0;

    must(libusb_get_configuration(zero, &value), "configuration");
    if (value != 1)
        must(libusb_set_configuration(zero, 1), "configuration 1");
}

int main(int argc, char **argv)
{
    int is_emulated = argc < 4, count = 96;

    if (argc > 1)
        count = atoi(argv[is_emulated ? 1 : 2]);
    expect(count >= in_flight, "TRANSFERS is 32 or more");
    zero = open_listed(is_emulated ? "0525:a4a0" : argv[1]);
    if (!is_emulated)
        bulk_packet = atoi(argv[3]);
    serial_number();
    // What a program before has left in it, a halt or no configuration for one, isn't this one's affair.
    must(libusb_reset_device(zero), "reset");
    configure();
    must(libusb_claim_interface(zero, 0), "claim");
    expect(libusb_get_max_packet_size(libusb_get_device(zero), 0x81) == bulk_packet, "bulk packets have their size");
    control();
    bulk(0x81, count);
    bulk(0x02, count);
    if (is_emulated)
        other_settings();
    must(libusb_release_interface(zero, 0), "release");
    close_listed(zero);
    return 0;
}
