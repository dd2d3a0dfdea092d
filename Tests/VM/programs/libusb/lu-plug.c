// SPDX-License-Identifier: Apache-2.0
//
// lu-plug EVENTS        prints the devices that are there, `listening`, then each that comes or goes as libusb calls
//                       back, without hubs: `+ VID:PID BUS.ADDRESS` or `- ...`; ends after so many
// lu-plug keys COUNT    prints so many reports of an emulated keyboard in hexadecimal
#include "device.h"

static int left;

static int changed(libusb_context *of, libusb_device *device, libusb_hotplug_event event, void *user)
{
    struct libusb_device_descriptor descriptor;

    (void)of;
    (void)user;
    must(libusb_get_device_descriptor(device, &descriptor), "device descriptor");
    if (descriptor.bDeviceClass == LIBUSB_CLASS_HUB)
        return 0;
    printf("%c %04x:%04x %d.%d\n", event == LIBUSB_HOTPLUG_EVENT_DEVICE_ARRIVED ? '+' : '-', descriptor.idVendor,
           descriptor.idProduct, libusb_get_bus_number(device), libusb_get_device_address(device));
    fflush(stdout);
    left--;
    return 0;
}

static void listen(int events)
{
    left = events;
    must(libusb_init(&context), "libusb_init");
    must(libusb_hotplug_register_callback(
             context, LIBUSB_HOTPLUG_EVENT_DEVICE_ARRIVED | LIBUSB_HOTPLUG_EVENT_DEVICE_LEFT, LIBUSB_HOTPLUG_ENUMERATE,
             LIBUSB_HOTPLUG_MATCH_ANY, LIBUSB_HOTPLUG_MATCH_ANY, LIBUSB_HOTPLUG_MATCH_ANY, changed, NULL, NULL),
         "libusb_hotplug_register_callback");
    puts("listening");
    fflush(stdout);
    while (left > 0)
        must(libusb_handle_events(context), "libusb_handle_events");
    libusb_exit(context);
}

static void keys(int count)
{
    libusb_device_handle *keyboard = open_listed("0525:a4ac");
    unsigned char report[8];
    int length;

    must(libusb_claim_interface(keyboard, 0), "claim");
    for (; count > 0; count--) {
        must(libusb_interrupt_transfer(keyboard, 0x81, report, sizeof report, &length, 0), "interrupt");
        for (int i = 0; i < length; i++)
            printf("%02x", report[i]);
        putchar('\n');
    }
    close_listed(keyboard);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "keys") == 0)
        keys(atoi(argv[2]));
    else if (argc == 2)
        listen(atoi(argv[1]));
    else
        return 2;
    return 0;
}
