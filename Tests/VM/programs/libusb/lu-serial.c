// SPDX-License-Identifier: Apache-2.0
//
// lu-serial echo      32 reads are in flight on an emulated serial adapter; what is sent comes back, in order
// lu-serial cancel    32 reads in flight are cancelled, each ends so; a blocking one ends with its time
// lu-serial hold      32 reads in flight, which nothing comes for; prints `held` and goes on until they have all ended,
//                     then prints how many ended with NO_DEVICE, and how many otherwise
// lu-serial claim     takes its interfaces and gives them back
//
// What is wrong is named, and ends with 1.
#include "device.h"

enum { in_flight = 32, size = 512, data_in = 0x81, data_out = 0x01 };

static libusb_device_handle *adapter;
static struct libusb_transfer *reads[in_flight];
static unsigned char sent[in_flight * size], got[in_flight * size];
static int running, got_count, ended_so[8];

static void done(struct libusb_transfer *transfer)
{
    ended_so[transfer->status]++;
    memcpy(got + got_count, transfer->buffer, (size_t)transfer->actual_length);
    got_count += transfer->actual_length;
    running--;
}

static void submit_reads(void)
{
    for (int i = 0; i < in_flight; i++) {
        reads[i] = libusb_alloc_transfer(0);
        libusb_fill_bulk_transfer(reads[i], adapter, data_in, malloc(size), size, done, NULL, 0);
        reads[i]->flags = LIBUSB_TRANSFER_FREE_BUFFER;
        must(libusb_submit_transfer(reads[i]), "read");
        running++;
    }
}

static void wait_reads(void)
{
    while (running > 0)
        must(libusb_handle_events(context), "libusb_handle_events");
    for (int i = 0; i < in_flight; i++)
        libusb_free_transfer(reads[i]);
}

// Of a length of its own each, shorter than a packet: each write ends one read.
static void echo(void)
{
    int sent_count = 0, count;

    for (size_t i = 0; i < sizeof sent; i++)
        sent[i] = (unsigned char)(i * 13 + i / 251);
    submit_reads();
    for (int i = 0; i < in_flight; i++, sent_count += count) {
        must(libusb_bulk_transfer(adapter, data_out, sent + sent_count, 100 + i, &count, 5000), "write");
        expect(count == 100 + i, "the write is whole");
    }
    wait_reads();
    expect(ended_so[LIBUSB_TRANSFER_COMPLETED] == in_flight, "all reads completed");
    expect(got_count == sent_count && memcmp(got, sent, (size_t)got_count) == 0, "what was sent came back");
    printf("echo: %d bytes in %d reads\n", got_count, in_flight);
}

static void cancel(void)
{
    unsigned char byte[size];
    int count;

    submit_reads();
    for (int i = 0; i < in_flight; i++)
        must(libusb_cancel_transfer(reads[i]), "cancel");
    wait_reads();
    expect(ended_so[LIBUSB_TRANSFER_CANCELLED] == in_flight, "all reads were cancelled");
    expect(libusb_bulk_transfer(adapter, data_in, byte, size, &count, 200) == LIBUSB_ERROR_TIMEOUT, "a read times out");
    printf("cancelled: %d\n", ended_so[LIBUSB_TRANSFER_CANCELLED]);
}

static void hold(void)
{
    submit_reads();
    puts("held");
    fflush(stdout);
    wait_reads();
    printf("gone: %d of %d\n", ended_so[LIBUSB_TRANSFER_NO_DEVICE], in_flight);
    for (int i = 0; i < 8; i++)
        if (ended_so[i] != 0 && i != LIBUSB_TRANSFER_NO_DEVICE)
            printf("status %d: %d\n", i, ended_so[i]);
}

int main(int argc, char **argv)
{
    const char *what = argc == 2 ? argv[1] : "";

    adapter = open_listed("0525:a4a7");
    for (int i = 0; i < 2; i++)
        must(libusb_claim_interface(adapter, i), "claim");
    if (strcmp(what, "echo") == 0)
        echo();
    else if (strcmp(what, "cancel") == 0)
        cancel();
    else if (strcmp(what, "hold") == 0)
        hold();
    else if (strcmp(what, "claim") != 0)
        return 2;
    // Of a device that is gone nothing can be released.
    if (strcmp(what, "hold") != 0)
        for (int i = 0; i < 2; i++)
            must(libusb_release_interface(adapter, i), "release");
    close_listed(adapter);
    return 0;
}
