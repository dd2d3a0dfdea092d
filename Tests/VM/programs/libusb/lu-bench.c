// SPDX-License-Identifier: Apache-2.0
//
// lu-bench VID:PID in|out SIZE DEPTH MEBIBYTES    bulk transfers of SIZE bytes, DEPTH of them in flight
// lu-bench VID:PID control COUNT                  GET_STATUS of the device, one after the other
// lu-bench VID:PID empty COUNT                    an ioctl that does nothing (GET_SPEED), one after the other
//
// Prints one JSON object: seconds, bytes or iterations, and cpu: seconds that all processors together have worked.
#include "device.h"
#include <fcntl.h>
#include <linux/usbdevice_fs.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

static libusb_device_handle *device;
static int running;
static long to_submit;

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

// Seconds of all that isn't idle, since boot.
static double worked(void)
{
    long user, nice, kernel, idle, wait, interrupt, soft, stolen;
    FILE *file = fopen("/proc/stat", "r");

    expect(file && fscanf(file, "cpu %ld %ld %ld %ld %ld %ld %ld %ld", &user, &nice, &kernel, &idle, &wait, &interrupt,
                          &soft, &stolen) == 8, "/proc/stat can be read");
    fclose(file);
    return (double)(user + nice + kernel + interrupt + soft + stolen) / 100;
}

// The first bulk endpoint of interface 0 in that direction.
static unsigned char endpoint(unsigned char direction)
{
    struct libusb_config_descriptor *configuration;
    unsigned char found = 0;

    must(libusb_get_active_config_descriptor(libusb_get_device(device), &configuration), "configuration");
    const struct libusb_interface_descriptor *setting = &configuration->interface[0].altsetting[0];
    for (int i = 0; i < setting->bNumEndpoints && !found; i++)
        if ((setting->endpoint[i].bmAttributes & 3) == LIBUSB_TRANSFER_TYPE_BULK &&
            (setting->endpoint[i].bEndpointAddress & LIBUSB_ENDPOINT_IN) == direction)
            found = setting->endpoint[i].bEndpointAddress;
    libusb_free_config_descriptor(configuration);
    expect(found, "it has such a bulk endpoint");
    return found;
}

static void done(struct libusb_transfer *transfer)
{
    running--;
    expect(transfer->status == LIBUSB_TRANSFER_COMPLETED && transfer->actual_length == transfer->length,
           "a transfer was whole");
    if (to_submit == 0)
        return;
    to_submit--;
    must(libusb_submit_transfer(transfer), "submit again");
    running++;
}

static void bulk(unsigned char direction, int size, int depth, long count)
{
    unsigned char address = endpoint(direction);

    to_submit = count - depth;
    for (int i = 0; i < depth; i++) {
        struct libusb_transfer *transfer = libusb_alloc_transfer(0);

        libusb_fill_bulk_transfer(transfer, device, address, calloc(1, (size_t)size), size, done, NULL, 10000);
        must(libusb_submit_transfer(transfer), "submit");
        running++;
    }
    while (running > 0)
        must(libusb_handle_events(context), "handle events");
}

static void control(long count)
{
    unsigned char status[2];

    for (long i = 0; i < count; i++)
        must(libusb_control_transfer(device, LIBUSB_ENDPOINT_IN, LIBUSB_REQUEST_GET_STATUS, 0, 0, status, 2, 1000),
             "GET_STATUS");
}

// What any of the others takes for each time that it calls, at least.
static void empty(long count)
{
    char path[64];

    snprintf(path, sizeof path, "/dev/bus/usb/%03d/%03d", libusb_get_bus_number(libusb_get_device(device)),
             libusb_get_device_address(libusb_get_device(device)));
    int node = open(path, O_RDWR);
    expect(node >= 0, "the node can be opened");
    for (long i = 0; i < count; i++)
        expect(ioctl(node, USBDEVFS_GET_SPEED) > 0, "GET_SPEED");
    close(node);
}

int main(int argc, char **argv)
{
    if (argc != 4 && argc != 6) {
        fputs("usage: lu-bench VID:PID in|out SIZE DEPTH MEBIBYTES | VID:PID control|empty COUNT\n", stderr);
        return 2;
    }
    int is_counted = argc == 4, size = is_counted ? 0 : atoi(argv[3]);
    long count = is_counted ? atol(argv[3]) : atol(argv[5]) * (1 << 20) / size;

    device = open_listed(argv[1]);
    must(libusb_claim_interface(device, 0), "claim");
    double start = now(), work = worked();
    if (is_counted) {
        if (strcmp(argv[2], "control") == 0)
            control(count);
        else
            empty(count);
        printf("{\"seconds\":%.6f,\"iterations\":%ld,\"cpu\":%.2f}\n", now() - start, count, worked() - work);
    } else {
        bulk(strcmp(argv[2], "in") == 0 ? LIBUSB_ENDPOINT_IN : 0, size, atoi(argv[4]), count);
        printf("{\"seconds\":%.6f,\"bytes\":%ld,\"cpu\":%.2f}\n", now() - start, count * size, worked() - work);
    }
    close_listed(device);
    return 0;
}
