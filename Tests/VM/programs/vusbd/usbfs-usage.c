// SPDX-License-Identifier: Apache-2.0
//
// usbfs-usage NODE           what programs do to a node of a serial adapter, beyond transfers: two openers with a claim
//                            each, a close, a reset and a disconnect with URBs in flight, a fork, poll
// usbfs-usage NODE unplug    prints `waiting` with URBs in flight, and goes on when the device has been unplugged
//
// The adapter must send nothing. Each call is printed with what came of it, so that what two nodes say of one device
// can be compared. What can't be done at all ends it with 1.
#include <errno.h>
#include <fcntl.h>
#include <linux/usbdevice_fs.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { urb_count = 4, urb_size = 512 };

static const char *file;
static unsigned char bulk_in;
static unsigned data_interface;

// As many URBs as an opener has in flight, at the same places in a parent and its child.
struct batch {
    struct usbdevfs_urb urbs[urb_count];
    unsigned char buffers[urb_count][urb_size];
};
static struct batch first, second;

static void die(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static void tell(const char *what, long result)
{
    printf("%s: %ld", what, result);
    if (result < 0)
        printf(" %s", strerror(errno));
    putchar('\n');
    fflush(stdout);
}

static int opened(void)
{
    int node = open(file, O_RDWR);

    if (node < 0)
        die(file);
    return node;
}

// Read in pieces, which go on where the last one ended: the device's own, the configuration's head, the rest, the end.
static void descriptors(int node)
{
    static unsigned char bytes[4096];
    const size_t pieces[] = {18, 9, sizeof bytes - 27, 1};
    size_t count = 0;
    unsigned interface = 0, sum = 0;

    for (int i = 0; i < 4; i++) {
        ssize_t n = read(node, bytes + count, pieces[i]);

        tell("read", n);
        count += n > 0 ? (size_t)n : 0;
    }
    for (size_t i = 0; i < count; i++)
        sum = sum * 31 + bytes[i];
    printf("sum of the descriptors: %u\n", sum);
    for (size_t at = 18; at + 6 < count && bytes[at] != 0; at += bytes[at]) {
        if (bytes[at + 1] == 4)
            interface = bytes[at + 2];
        if (bytes[at + 1] != 5 || (bytes[at + 3] & 3) != 2 || !(bytes[at + 2] & 0x80))
            continue;
        bulk_in = bytes[at + 2];
        data_interface = interface;
    }
    printf("bulk in %02x of interface %u\n", bulk_in, data_interface);
}

static void claim(const char *who, int node, unsigned interface)
{
    char what[64];

    snprintf(what, sizeof what, "%s claims %u", who, interface);
    tell(what, ioctl(node, USBDEVFS_CLAIMINTERFACE, &interface));
}

static void release(const char *who, int node, unsigned interface)
{
    char what[64];

    snprintf(what, sizeof what, "%s releases %u", who, interface);
    tell(what, ioctl(node, USBDEVFS_RELEASEINTERFACE, &interface));
}

static void driver(int node)
{
    struct usbdevfs_getdriver get = {.interface = data_interface};

    tell("driver", ioctl(node, USBDEVFS_GETDRIVER, &get));
    puts(get.driver);
}

static void submit(int node, struct batch *batch)
{
    for (int i = 0; i < urb_count; i++) {
        batch->urbs[i] = (struct usbdevfs_urb){.type = USBDEVFS_URB_TYPE_BULK, .endpoint = bulk_in, .status = 99,
                                               .buffer = batch->buffers[i], .buffer_length = urb_size};
        tell("submit", ioctl(node, USBDEVFS_SUBMITURB, &batch->urbs[i]));
    }
}

static void reap(int node, unsigned long how, const struct batch *batch)
{
    struct usbdevfs_urb *urb = NULL;
    int result = ioctl(node, how, &urb);

    tell(how == USBDEVFS_REAPURB ? "reap" : "reap what is there", result);
    if (result == 0)
        printf("  number %d, status %d, bytes %d\n", (int)(urb - batch->urbs), urb->status, urb->actual_length);
}

// As the device goes, a URB may still meet one that doesn't answer.
static void reap_gone(int node)
{
    struct usbdevfs_urb *urb = NULL;
    int result = ioctl(node, USBDEVFS_REAPURB, &urb);

    tell("reap", result);
    if (result == 0 && urb->status != -ESHUTDOWN && urb->status != -EPROTO)
        printf("  number %d, not gone but %d, bytes %d\n", (int)(urb - first.urbs), urb->status, urb->actual_length);
    else if (result == 0)
        printf("  number %d, gone, bytes %d\n", (int)(urb - first.urbs), urb->actual_length);
}

// What of these can be told without a doubt: whether anything can be reaped, whether the device is there.
static void polled(int node, int timeout)
{
    struct pollfd poller = {.fd = node, .events = POLLOUT};
    int n = poll(&poller, 1, timeout);

    printf("poll: %d%s%s%s\n", n, poller.revents & POLLOUT ? " OUT" : "", poller.revents & POLLERR ? " ERR" : "",
           poller.revents & POLLHUP ? " HUP" : "");
    fflush(stdout);
}

static void two_openers(void)
{
    int one = opened(), two = opened();
    unsigned char state[8];
    // GET_LINE_CODING, which the communications interface, number 0, answers.
    struct usbdevfs_ctrltransfer coding = {0xa1, 0x21, 0, 0, 7, 1000, state};
    struct usbdevfs_disconnect_claim steal = {
        .interface = data_interface, .flags = USBDEVFS_DISCONNECT_CLAIM_EXCEPT_DRIVER, .driver = "usbfs"};

    puts("- two openers with a claim each");
    descriptors(one);
    driver(one);
    claim("one", one, 0);
    claim("two", two, data_interface);
    claim("one", one, data_interface);
    claim("two", two, data_interface);
    claim("one", one, 7);
    claim("one", one, 77);
    driver(one);
    tell("one's request", ioctl(one, USBDEVFS_CONTROL, &coding));
    tell("two's request", ioctl(two, USBDEVFS_CONTROL, &coding));
    tell("one takes it, but from usbfs", ioctl(one, USBDEVFS_DISCONNECT_CLAIM, &steal));
    submit(two, &second);
    submit(one, &first);
    tell("one discards two's", ioctl(one, USBDEVFS_DISCARDURB, &second.urbs[0]));
    reap(one, USBDEVFS_REAPURBNDELAY, &first);
    release("one", one, data_interface);

    puts("- close with URBs in flight");
    tell("close", close(two));
    driver(one);
    claim("one", one, data_interface);
    submit(one, &first);
    release("one", one, data_interface);
    for (int i = 0; i <= urb_count; i++)
        reap(one, USBDEVFS_REAPURBNDELAY, &first);
    tell("close", close(one));
}

static void polling(void)
{
    int node = opened();

    puts("- poll");
    claim("it", node, data_interface);
    polled(node, 0);
    submit(node, &first);
    polled(node, 0);
    tell("discard", ioctl(node, USBDEVFS_DISCARDURB, &first.urbs[2]));
    polled(node, 10000);
    reap(node, USBDEVFS_REAPURB, &first);
    polled(node, 0);
    tell("close", close(node));
}

// A child has its parent's open file. What it reaps is written into its own memory.
static void forked(void)
{
    int node = opened(), status;
    pid_t child;

    puts("- fork");
    claim("the parent", node, data_interface);
    submit(node, &first);
    child = fork();
    if (child < 0)
        die("fork");
    if (child == 0) {
        tell("the child discards", ioctl(node, USBDEVFS_DISCARDURB, &first.urbs[1]));
        reap(node, USBDEVFS_REAPURB, &first);
        tell("close", close(node));
        exit(0);
    }
    if (waitpid(child, &status, 0) != child || status != 0)
        die("the child");
    printf("as the parent sees it: status %d\n", first.urbs[1].status);
    reap(node, USBDEVFS_REAPURBNDELAY, &first);
    tell("the parent discards", ioctl(node, USBDEVFS_DISCARDURB, &first.urbs[0]));
    reap(node, USBDEVFS_REAPURB, &first);
    driver(node);
    tell("close", close(node));
}

static void reset(void)
{
    int one = opened(), two = opened();

    puts("- reset by another, with URBs in flight");
    claim("one", one, data_interface);
    submit(one, &first);
    tell("reset", ioctl(two, USBDEVFS_RESET, NULL));
    for (int i = 0; i <= urb_count; i++)
        reap(one, USBDEVFS_REAPURBNDELAY, &first);
    driver(two);
    release("one", one, data_interface);
    claim("two", two, data_interface);
    submit(two, &second);
    tell("close", close(one));
    tell("close", close(two));
}

static void taken_away(void)
{
    int one = opened(), two = opened();
    struct usbdevfs_ioctl disconnect = {.ifno = (int)data_interface, .ioctl_code = USBDEVFS_DISCONNECT};

    puts("- taken away by another, with URBs in flight");
    claim("one", one, data_interface);
    submit(one, &first);
    tell("two disconnects it", ioctl(two, USBDEVFS_IOCTL, &disconnect));
    for (int i = 0; i <= urb_count; i++)
        reap(one, USBDEVFS_REAPURBNDELAY, &first);
    driver(one);
    tell("two disconnects it again", ioctl(two, USBDEVFS_IOCTL, &disconnect));
    claim("two", two, data_interface);
    tell("close", close(one));
    tell("close", close(two));
}

static void unplugged(void)
{
    int node = opened();
    struct pollfd poller = {.fd = node, .events = POLLOUT};
    unsigned capabilities;

    descriptors(node);
    claim("it", node, data_interface);
    submit(node, &first);
    puts("waiting");
    fflush(stdout);
    // The kernel says one a moment before the other.
    while (!(poller.revents & POLLERR && poller.revents & POLLHUP))
        if (poll(&poller, 1, 30000) <= 0)
            die("poll");
    polled(node, 0);
    for (int i = 0; i < urb_count; i++)
        reap_gone(node);
    reap(node, USBDEVFS_REAPURBNDELAY, &first);
    reap(node, USBDEVFS_REAPURB, &first);
    polled(node, 0);
    claim("it", node, data_interface);
    tell("capabilities", ioctl(node, USBDEVFS_GET_CAPABILITIES, &capabilities));
    tell("read", read(node, &first, 18));
    tell("close", close(node));
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    file = argv[1];
    if (argc > 2 && strcmp(argv[2], "unplug") == 0) {
        unplugged();
        return 0;
    }
    two_openers();
    polling();
    forked();
    reset();
    taken_away();
    return 0;
}
