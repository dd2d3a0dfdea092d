// SPDX-License-Identifier: Apache-2.0
//
// usbfs32 NODE zero      all calls with a Gadget Zero of pattern mod63
// usbfs32 NODE iso       isochronous ones, which Gadget Zero has in its alternate setting 1 if its controller can
// usbfs32 NODE serial    with an adapter that sends nothing: URBs that stay in flight and are discarded
//
// A 32-bit program at a usbfs node: structures with pointers of 4 bytes, which a 64-bit kernel takes with ioctl numbers
// of their own. It uses no library at all, so that it can be built where there is none for 32 bits. Each call is printed
// with what came of it, so that what two nodes say of one device can be compared; data that are wrong end it with 1.
#include <linux/ioctl.h>
#include <linux/usbdevice_fs.h>

enum { sys_exit = 1, sys_read = 3, sys_write = 4, sys_open = 5, sys_ioctl = 54, read_write = 2 };
enum { enoent = 2, eagain = 11, urb_count = 4, urb_size = 16384, iso_packets = 8, iso_size = 1024 };

static int node;
static unsigned char interface, bulk_in, bulk_out;
static unsigned packet_size;

static long call(long number, long a, long b, long c)
{
    long result;

    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
    return result;
}

// What the compiler makes calls of by itself.
void *memset(void *to, int byte, unsigned count)
{
    for (volatile unsigned char *p = to; count > 0; count--)
        *p++ = (unsigned char)byte;
    return to;
}

void *memcpy(void *to, const void *from, unsigned count)
{
    volatile unsigned char *p = to;

    for (const unsigned char *q = from; count > 0; count--)
        *p++ = *q++;
    return to;
}

static void say(const char *text)
{
    unsigned length = 0;

    while (text[length] != '\0')
        length++;
    call(sys_write, 1, (long)text, (long)length);
}

static void say_number(long number)
{
    char text[16], *p = text + sizeof text - 1;
    unsigned long rest = number < 0 ? -(unsigned long)number : (unsigned long)number;

    *p = '\0';
    do
        *--p = (char)('0' + rest % 10);
    while ((rest /= 10) > 0);
    if (number < 0)
        *--p = '-';
    say(p);
}

static void line(const char *what, long result)
{
    say(what);
    say(" ");
    say_number(result);
    say("\n");
}

static void expect(int holds, const char *what)
{
    if (holds)
        return;
    say("not so: ");
    say(what);
    say("\n");
    call(sys_exit, 1, 0, 0);
}

static long control(unsigned long request, void *argument)
{
    return call(sys_ioctl, node, (long)request, (long)argument);
}

static void fill(unsigned char *bytes, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        bytes[i] = (unsigned char)(i % packet_size % 63);
}

static int is_pattern(const unsigned char *bytes, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (bytes[i] != i % packet_size % 63)
            return 0;
    return 1;
}

// The first interface that has bulk endpoints both ways, as the descriptors say that the node is read for.
static void look_for_endpoints(void)
{
    static unsigned char bytes[4096];
    long count = call(sys_read, node, (long)bytes, sizeof bytes), sum = 0;

    for (long i = 0; i < count; i++)
        sum = sum * 31 + bytes[i];
    line("descriptors", count);
    line("their sum", sum);
    for (long at = 18; at + 6 < count && bytes[at] != 0 && !(bulk_in && bulk_out); at += bytes[at]) {
        if (bytes[at + 1] == 4) {
            interface = bytes[at + 2];
            bulk_in = bulk_out = 0;
        } else if (bytes[at + 1] == 5 && (bytes[at + 3] & 3) == 2) {
            *(bytes[at + 2] & 0x80 ? &bulk_in : &bulk_out) = bytes[at + 2];
            packet_size = bytes[at + 4] | (unsigned)bytes[at + 5] << 8;
        }
    }
    expect(bulk_in && bulk_out, "the device has bulk endpoints both ways");
    line("packets of", packet_size);
}

static void driver(void)
{
    struct usbdevfs_getdriver get = {.interface = interface};

    line("GETDRIVER", control(USBDEVFS_GETDRIVER, &get));
    say(get.driver);
    say("\n");
}

// Strings are asked for in English, which the index says; other requests don't look at it.
static long request(unsigned char type, unsigned char number, unsigned short value, void *data, unsigned short length)
{
    struct usbdevfs_ctrltransfer transfer = {
        .bRequestType = type, .bRequest = number, .wValue = value, .wIndex = value >> 8 == 3 ? 0x0409 : 0,
        .wLength = length, .timeout = 5000, .data = data};

    return control(USBDEVFS_CONTROL, &transfer);
}

static void serial_number(void)
{
    unsigned char device[18], text[255] = {0};
    char ascii[2] = {0};

    line("GET_DESCRIPTOR", request(0x80, 6, 0x0100, device, sizeof device));
    line("serial number", request(0x80, 6, 0x0300 | device[16], text, sizeof text));
    expect(text[0] > 2 && text[1] == 3, "the device has a serial number");
    for (int i = 2; i < text[0]; i += 2) {
        ascii[0] = (char)text[i];
        say(ascii);
    }
    say("\n");
}

static void calls(void)
{
    static unsigned char out[8192], in[8192];
    struct usbdevfs_bulktransfer bulk = {.ep = bulk_in, .len = sizeof in, .timeout = 5000, .data = in};

    for (int i = 0; i < 1000; i++)
        out[i] = (unsigned char)(i * 7);
    line("vendor request 5b", request(0x40, 0x5b, 0, out, 1000));
    line("vendor request 5c", request(0xc0, 0x5c, 0, in, 1000));
    for (int i = 0; i < 1000; i++)
        expect(in[i] == out[i], "control returns what was written");
    line("an unknown one", request(0xc0, 0x77, 0, in, 8));
    line("BULK in", control(USBDEVFS_BULK, &bulk));
    expect(is_pattern(in, sizeof in), "BULK reads the pattern");
    fill(out, sizeof out);
    bulk.ep = bulk_out;
    bulk.data = out;
    line("BULK out", control(USBDEVFS_BULK, &bulk));
}

static unsigned char buffers[urb_count][urb_size];
static struct usbdevfs_urb urbs[urb_count];

static long submit(int i, unsigned char type, unsigned char endpoint, int length)
{
    urbs[i] = (struct usbdevfs_urb){.type = type, .endpoint = endpoint, .buffer = buffers[i], .buffer_length = length,
                                    .status = 99, .usercontext = &buffers[i]};
    return control(USBDEVFS_SUBMITURB, &urbs[i]);
}

// The place of an URB's address has 4 bytes: what lies beside it must stay.
static long reap(unsigned long how, int *index)
{
    struct { unsigned before; struct usbdevfs_urb *urb; unsigned behind; } place = {0x55555555, 0, 0xaaaaaaaa};
    long result = control(how, &place.urb);

    expect(place.before == 0x55555555 && place.behind == 0xaaaaaaaa, "a reap writes 4 bytes");
    if (result != 0) {
        expect(place.urb == 0, "a failed reap writes nothing");
        return result;
    }
    *index = (int)(place.urb - urbs);
    expect(*index >= 0 && *index < urb_count && place.urb == &urbs[*index], "what was reaped was submitted");
    expect(place.urb->usercontext == &buffers[*index], "the user's context is what it was");
    return result;
}

static void reap_and_tell(const char *what, unsigned long how)
{
    int i = 0;
    long result = reap(how, &i);

    line(what, result);
    if (result != 0)
        return;
    line("  URB", i);
    line("  status", urbs[i].status);
    line("  bytes", urbs[i].actual_length);
    line("  errors", urbs[i].error_count);
}

// Until there is one: a REAPURBNDELAY comes too early sometimes.
static void reap_by_asking(void)
{
    int i;
    long result = -eagain;

    for (long tries = 0; result == -eagain && tries < 10000000; tries++)
        result = reap(USBDEVFS_REAPURBNDELAY, &i);
    line("REAPURBNDELAY", result);
    line("  status", urbs[i].status);
    line("  bytes", urbs[i].actual_length);
}

static void transfers(void)
{
    static const unsigned char get_device[8] = {0x80, 6, 0, 1, 0, 0, 18, 0};

    for (int i = 0; i < urb_count; i++)
        line("SUBMITURB in", submit(i, USBDEVFS_URB_TYPE_BULK, bulk_in, urb_size));
    for (int i = 0; i < urb_count; i++)
        reap_and_tell("REAPURB", USBDEVFS_REAPURB);
    for (int i = 0; i < urb_count; i++) {
        expect(is_pattern(buffers[i], urb_size), "an URB reads the pattern");
        fill(buffers[i], urb_size);
        line("SUBMITURB out", submit(i, USBDEVFS_URB_TYPE_BULK, bulk_out, urb_size));
    }
    for (int i = 0; i < urb_count; i++)
        reap_by_asking();
    memcpy(buffers[0], get_device, sizeof get_device);
    line("SUBMITURB control", submit(0, USBDEVFS_URB_TYPE_CONTROL, 0, 8 + 18));
    reap_and_tell("REAPURB", USBDEVFS_REAPURB);
    expect(buffers[0][8] == 18 && buffers[0][9] == 1, "the device descriptor is behind the setup packet");
    line("SUBMITURB at no endpoint", submit(0, USBDEVFS_URB_TYPE_BULK, 0x8f, 512));
    line("SUBMITURB of no type", submit(0, 7, bulk_in, 512));
    reap_and_tell("REAPURBNDELAY", USBDEVFS_REAPURBNDELAY);
}

// The packets follow the structure, whose end is elsewhere than in 64 bits.
static void isochronous(void)
{
    static unsigned char data[iso_packets * iso_size];
    static struct { struct usbdevfs_urb urb; struct usbdevfs_iso_packet_desc packets[iso_packets]; } transfer;
    struct usbdevfs_setinterface setting = {.interface = interface, .altsetting = 1};
    struct usbdevfs_urb *reaped = 0;

    packet_size = iso_size;
    line("SETINTERFACE", control(USBDEVFS_SETINTERFACE, &setting));
    transfer.urb = (struct usbdevfs_urb){
        .type = USBDEVFS_URB_TYPE_ISO, .flags = USBDEVFS_URB_ISO_ASAP, .endpoint = 0x83, .buffer = data,
        .buffer_length = sizeof data, .number_of_packets = iso_packets};
    for (int i = 0; i < iso_packets; i++)
        transfer.packets[i].length = iso_size;
    line("SUBMITURB isochronous", control(USBDEVFS_SUBMITURB, &transfer));
    line("REAPURB", control(USBDEVFS_REAPURB, &reaped));
    expect(reaped == &transfer.urb, "it's this one");
    line("  status", transfer.urb.status);
    for (int i = 0; i < iso_packets; i++) {
        line("  packet", (long)transfer.packets[i].actual_length);
        line("  its status", (long)transfer.packets[i].status);
        expect(is_pattern(data + i * iso_size, iso_size), "a packet has the pattern");
    }
}

static void discards(void)
{
    struct usbdevfs_bulktransfer bulk = {.ep = bulk_in, .len = 512, .timeout = 50, .data = buffers[0]};
    struct usbdevfs_getdriver none = {.interface = interface};
    struct usbdevfs_ioctl disconnect = {.ifno = interface, .ioctl_code = USBDEVFS_DISCONNECT};

    line("BULK of what doesn't come", control(USBDEVFS_BULK, &bulk));
    for (int i = 0; i < urb_count; i++)
        line("SUBMITURB in", submit(i, USBDEVFS_URB_TYPE_BULK, bulk_in, 512));
    reap_and_tell("REAPURBNDELAY", USBDEVFS_REAPURBNDELAY);
    for (int i = urb_count - 1; i >= 0; i--) {
        line("DISCARDURB", control(USBDEVFS_DISCARDURB, &urbs[i]));
        reap_and_tell("REAPURB", USBDEVFS_REAPURB);
        expect(urbs[i].status == -enoent, "it was discarded");
        line("DISCARDURB again", control(USBDEVFS_DISCARDURB, &urbs[i]));
    }
    line("IOCTL DISCONNECT", control(USBDEVFS_IOCTL, &disconnect));
    line("GETDRIVER", control(USBDEVFS_GETDRIVER, &none));
    line("CLAIMINTERFACE", control(USBDEVFS_CLAIMINTERFACE, &none.interface));
}

static int is(const char *text, const char *other)
{
    while (*text != '\0' && *text == *other) {
        text++;
        other++;
    }
    return *text == *other;
}

__attribute__((used)) static void run(long *stack)
{
    char **arguments = (char **)(stack + 1);
    unsigned number;

    expect(stack[0] == 3, "usage: usbfs32 NODE zero|iso|serial");
    node = (int)call(sys_open, (long)arguments[1], read_write, 0);
    expect(node >= 0, "the node can be opened");
    look_for_endpoints();
    number = interface;
    driver();
    line("CLAIMINTERFACE", control(USBDEVFS_CLAIMINTERFACE, &number));
    driver();
    serial_number();
    if (is(arguments[2], "serial"))
        discards();
    else if (is(arguments[2], "iso"))
        isochronous();
    else {
        calls();
        transfers();
    }
    line("RELEASEINTERFACE", control(USBDEVFS_RELEASEINTERFACE, &number));
    line("RELEASEINTERFACE again", control(USBDEVFS_RELEASEINTERFACE, &number));
    call(sys_exit, 0, 0, 0);
}

// The kernel's stack: the number of arguments, then these.
__asm__(".globl _start\n_start:\n\tmovl %esp, %eax\n\tandl $-16, %esp\n\tsubl $12, %esp\n\tpushl %eax\n\tcall run\n");
