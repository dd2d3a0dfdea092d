// SPDX-License-Identifier: Apache-2.0
//
// lu-tty VID:PID COUNT    a serial adapter of class CDC-ACM: sets its line to 115200 8N1 and raises DTR and RTS, sends
//                         standard input, and prints COUNT bytes that come, both at once
//
// What goes wrong is named, and ends with 1.
#include "device.h"

enum { size = 16384, set_line_coding = 0x20, set_control_line_state = 0x22 };

static libusb_device_handle *adapter;
static unsigned char data_in, data_out, received[size], sent[size];
static long to_receive;
static int running;

// The adapter's communications interface is 0, its data interface 1.
static void find_endpoints(void)
{
    struct libusb_config_descriptor *configuration;

    must(libusb_get_active_config_descriptor(libusb_get_device(adapter), &configuration), "configuration");
    expect(configuration->bNumInterfaces == 2, "the adapter has two interfaces");
    const struct libusb_interface_descriptor *data = configuration->interface[1].altsetting;

    for (int i = 0; i < data->bNumEndpoints; i++) {
        unsigned char address = data->endpoint[i].bEndpointAddress;

        *(address & LIBUSB_ENDPOINT_IN ? &data_in : &data_out) = address;
    }
    libusb_free_config_descriptor(configuration);
    expect(data_in && data_out, "it has data endpoints both ways");
}

static void set_line(void)
{
    // 115200, one stop bit, no parity, eight bits.
    unsigned char coding[7] = {0x00, 0xc2, 0x01, 0x00, 0, 0, 8};

    must(libusb_control_transfer(adapter, 0x21, set_line_coding, 0, 0, coding, sizeof coding, 5000), "SET_LINE_CODING");
    must(libusb_control_transfer(adapter, 0x21, set_control_line_state, 3, 0, NULL, 0, 5000), "SET_CONTROL_LINE_STATE");
}

static void submit(struct libusb_transfer *transfer)
{
    must(libusb_submit_transfer(transfer), "submit");
    running++;
}

static void has_come(struct libusb_transfer *transfer)
{
    running--;
    expect(transfer->status == LIBUSB_TRANSFER_COMPLETED, "a read completed");
    to_receive -= transfer->actual_length;
    expect(fwrite(transfer->buffer, 1, (size_t)transfer->actual_length, stdout) == (size_t)transfer->actual_length,
           "what came was printed");
    if (to_receive > 0)
        submit(transfer);
}

static void send_next(struct libusb_transfer *transfer)
{
    transfer->length = (int)fread(sent, 1, sizeof sent, stdin);
    if (transfer->length > 0)
        submit(transfer);
}

static void was_sent(struct libusb_transfer *transfer)
{
    running--;
    expect(transfer->status == LIBUSB_TRANSFER_COMPLETED && transfer->actual_length == transfer->length,
           "a write completed");
    send_next(transfer);
}

int main(int argc, char **argv)
{
    struct libusb_transfer *read = libusb_alloc_transfer(0), *write = libusb_alloc_transfer(0);

    if (argc != 3)
        return 2;
    adapter = open_listed(argv[1]);
    to_receive = atol(argv[2]);
    find_endpoints();
    for (int i = 0; i < 2; i++)
        must(libusb_claim_interface(adapter, i), "claim");
    set_line();
    libusb_fill_bulk_transfer(read, adapter, data_in, received, size, has_come, NULL, 0);
    libusb_fill_bulk_transfer(write, adapter, data_out, sent, size, was_sent, NULL, 0);
    if (to_receive > 0)
        submit(read);
    send_next(write);
    while (running > 0)
        must(libusb_handle_events(context), "libusb_handle_events");
    libusb_free_transfer(read);
    libusb_free_transfer(write);
    expect(fflush(stdout) == 0, "all was printed");
    close_listed(adapter);
    return 0;
}
