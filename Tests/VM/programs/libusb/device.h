// SPDX-License-Identifier: Apache-2.0
//
// What the programs on libusb share: a device is found as any program finds it, in libusb's own list.
#include <libusb-1.0/libusb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static libusb_context *context;

// What failed, and how by libusb's name, to standard error; the program ends with 1.
static inline void must(int result, const char *what)
{
    if (result >= 0)
        return;
    fprintf(stderr, "%s: %s\n", what, libusb_error_name(result));
    exit(1);
}

static inline void expect(int holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "not so: %s\n", what);
    exit(1);
}

// The only device in the list with these numbers, `VID:PID` in hexadecimal, opened.
static inline libusb_device_handle *open_listed(const char *numbers)
{
    libusb_device **list, *found = NULL;
    libusb_device_handle *handle;

    must(libusb_init(&context), "libusb_init");
    ssize_t count = libusb_get_device_list(context, &list);
    must((int)count, "libusb_get_device_list");
    for (ssize_t i = 0; i < count; i++) {
        struct libusb_device_descriptor descriptor;
        char its[16];

        must(libusb_get_device_descriptor(list[i], &descriptor), "device descriptor");
        snprintf(its, sizeof its, "%04x:%04x", descriptor.idVendor, descriptor.idProduct);
        if (strcmp(its, numbers) != 0)
            continue;
        expect(found == NULL, "there is one such device");
        found = list[i];
    }
    must(found ? 0 : LIBUSB_ERROR_NOT_FOUND, numbers);
    must(libusb_open(found, &handle), "libusb_open");
    libusb_free_device_list(list, 1);
    return handle;
}

static inline void close_listed(libusb_device_handle *handle)
{
    libusb_close(handle);
    libusb_exit(context);
}
