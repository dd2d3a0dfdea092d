// SPDX-License-Identifier: Apache-2.0
//
// liar FILE CONFIGURATION-HEX: a USB device on gadgetfs (FILE, such as /dev/gadget/dummy_udc) whose configuration
// descriptor is those bytes, whatever they say; 1209:0666 at full speed. Prints `plugged`, serves endpoint 0 until
// it is killed. gadgetfs checks the first nine bytes only.
#include <fcntl.h>
#include <linux/usb/gadgetfs.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const uint8_t device_descriptor[18] = {
    18, 1, 0x00, 0x02, 0xff, 0, 0, 64, 0x09, 0x12, 0x66, 0x06, 0x00, 0x01, 0, 0, 0, 1,
};

static size_t parse_hex(const char *text, uint8_t *bytes, size_t room)
{
    size_t length = 0;
    unsigned byte;
    for (; length < room && sscanf(text, "%2x", &byte) == 1; text += 2)
        bytes[length++] = (uint8_t)byte;
    return length;
}

// Requests that carry no data are acknowledged by a read of nothing; all others are stalled by I/O the wrong way.
static void answer(int fd, const struct usb_ctrlrequest *request)
{
    int is_in = (request->bRequestType & 0x80) != 0;
    int is_known = request->bRequest == 9 || request->bRequest == 11;
    ssize_t ignored = is_in || is_known ? read(fd, NULL, 0) : write(fd, NULL, 0);
    (void)ignored; // A stall is reported as an error; there is nothing to do about it.
}

int main(int argc, char **argv)
{
    uint8_t bytes[4096] = {0}; // Begins with a tag of 0.
    if (argc != 3)
        return 2;
    size_t length = 4 + parse_hex(argv[2], bytes + 4, sizeof bytes - 4 - sizeof device_descriptor);
    memcpy(bytes + length, device_descriptor, sizeof device_descriptor);
    length += sizeof device_descriptor;
    int fd = open(argv[1], O_RDWR);
    if (fd < 0 || write(fd, bytes, length) != (ssize_t)length) {
        perror(argv[1]);
        return 1;
    }
    puts("plugged");
    fflush(stdout);
    struct usb_gadgetfs_event events[8];
    ssize_t n;
    while ((n = read(fd, events, sizeof events)) > 0)
        for (size_t i = 0; i < (size_t)n / sizeof events[0]; i++)
            if (events[i].type == GADGETFS_SETUP)
                answer(fd, &events[i].u.setup);
    perror(argv[1]);
    return 1;
}
