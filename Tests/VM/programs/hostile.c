// SPDX-License-Identifier: Apache-2.0
//
// hostile HCD DEVICE SEED
//
// Plays a guest that means harm: opens the channel HCD of a guest in which no module runs and breaks its rules in all
// the ways below, DEVICE being the handle that its first device has. After each, the channel is closed and opened anew.
// What vusbd answers is its own affair, but it must answer: a call that takes longer than 10 seconds ends this program.
// Prints a line for each way: how many calls it took, and how many of them vusbd refused. Exits with 1 where a rule
// that must end the channel (Channel.md, rows C3, C4, C12, C14) didn't, or the channel can't be opened any more.
#define _GNU_SOURCE
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <vusb_abi.h>

enum { call_seconds = 10, open_attempts = 200, submits = 10000 };

static const char *path;
static uint16_t device;
static int fd = -1;
static int calls, refusals;
static int failures;

static void open_channel(void)
{
    // The last one's close may still be on its way through the exporter.
    for (int i = 0; i < open_attempts; i++) {
        fd = open(path, O_RDWR);
        if (fd >= 0)
            return;
        usleep(50000);
    }
    fprintf(stderr, "%s can't be opened any more: %s\n", path, strerrorname_np(errno));
    exit(1);
}

// At offset 0, as the module does; refused where it fails.
static int put(const void *bytes, size_t count)
{
    alarm(call_seconds);
    ssize_t result = pwrite(fd, bytes, count, 0);
    alarm(0);
    calls++;
    if (result == (ssize_t)count)
        return 0;
    refusals++;
    return -1;
}

// Reads until there is nothing more; returns whether the channel still stands.
static int drain(void)
{
    static char buffer[1 << 16];
    for (;;) {
        alarm(call_seconds);
        ssize_t result = pread(fd, buffer, sizeof buffer, 0);
        alarm(0);
        calls++;
        if (result < 0) {
            refusals++;
            return 0;
        }
        if (result == 0)
            return 1;
    }
}

static struct vusb_record record(uint16_t type, uint16_t handle, uint64_t id, uint32_t payload)
{
    struct vusb_record r = {0};
    r.size = htole32(sizeof r + payload);
    r.type = htole16(type);
    r.device = htole16(handle);
    r.id = htole64(id);
    return r;
}

static int hello(void)
{
    struct vusb_record r = record(VUSB_HELLO, 0, 0, 0);
    r.hello.magic = htole32(VUSB_ABI_MAGIC);
    r.hello.version = htole16(VUSB_ABI_VERSION);
    r.hello.ports = htole16(8);
    r.hello.features = htole32(VUSB_FEATURE_STREAMS | VUSB_FEATURE_ISO);
    r.hello.max_transfer = htole32(VUSB_MAX_TRANSFER);
    r.hello.wait = htole32(100000);
    return put(&r, sizeof r);
}

// GET_DESCRIPTOR(DEVICE), which every device answers.
static struct vusb_record get_descriptor(uint64_t id)
{
    struct vusb_record r = record(VUSB_SUBMIT, device, id, 0);
    static const uint8_t setup[8] = {0x80, 6, 0, 1, 0, 0, 18, 0};
    r.submit.endpoint = 0x80;
    r.submit.transfer = VUSB_CONTROL;
    r.submit.length = htole32(18);
    memcpy(r.submit.setup, setup, sizeof setup);
    return r;
}

// A bulk IN on Gadget Zero's 0x81, which is never short of bytes.
static struct vusb_record bulk_in(uint64_t id, uint32_t length)
{
    struct vusb_record r = record(VUSB_SUBMIT, device, id, 0);
    r.submit.endpoint = 0x81;
    r.submit.transfer = VUSB_BULK;
    r.submit.length = htole32(length);
    return r;
}

static void put_random(void *bytes, size_t count)
{
    uint8_t *p = bytes;
    for (size_t i = 0; i < count; i++)
        p[i] = (uint8_t)random();
}

// ---- what must end the channel

static void refused_record(const char *what, struct vusb_record r)
{
    open_channel();
    hello();
    drain();
    put(&r, sizeof r);
    // The violation may be found in the write, or behind it.
    if (drain()) {
        fprintf(stderr, "%s didn't end the channel\n", what);
        failures++;
    }
    close(fd);
}

static void rule_breakers(void)
{
    struct vusb_record r;

    r = get_descriptor(1);
    r.size = htole32(0);
    refused_record("a record of size 0", r);
    r.size = htole32(sizeof r - 1);
    refused_record("a record smaller than a record", r);
    r.size = htole32(0xffffffff);
    refused_record("a record of 4 GiB", r);
    r.size = htole32(sizeof r + 18);
    refused_record("an IN submit with a payload", r);

    r = bulk_in(1, 0xffffffff);
    refused_record("a URB of 4 GiB", r);
    r = bulk_in(1, VUSB_MAX_TRANSFER + 1);
    refused_record("a URB beyond max_transfer", r);
    r = bulk_in(0xffff, 512);
    refused_record("a slot beyond the hello's urbs", r);
    r = bulk_in(1, 512);
    r.submit.packets = htole16(0xffff);
    refused_record("a bulk URB with packets", r);
    r = bulk_in(1, 512);
    r.submit.transfer = 77;
    refused_record("an unknown transfer type", r);
    r = bulk_in(1, 512);
    r.device = htole16(0xffff);
    refused_record("a submit for a device that never was", r);
    refused_record("a removal that nobody asked for", record(VUSB_REMOVED, device, 0, 0));
    refused_record("an answer to no question", record(VUSB_QUIESCED, 0, 12345, 0));
    refused_record("a record of an unknown type", record(999, device, 1, 0));
    refused_record("a record that only hosts send", record(VUSB_COMPLETE, device, 1, 0));
    struct vusb_record second = record(VUSB_HELLO, 0, 0, 0);
    second.hello.magic = htole32(VUSB_ABI_MAGIC);
    second.hello.version = htole16(VUSB_ABI_VERSION);
    refused_record("a second hello", second);
}

// An id again while its slot is taken: the URB waits on an OUT of which only half has come.
static void replays(void)
{
    open_channel();
    hello();
    drain();
    for (int i = 0; i < 100; i++) {
        struct vusb_record twice[2] = {bulk_in(1, 512), bulk_in(1, 512)};
        // The first one may have completed and been read before the second is looked at only if somebody reads.
        if (put(twice, sizeof twice))
            break;
    }
    if (drain()) {
        fprintf(stderr, "replayed ids didn't end the channel\n");
        failures++;
    }
    close(fd);
}

// ---- what may do as it likes, as long as it is answered

static void noise(int rounds)
{
    static uint8_t bytes[4096];
    for (int i = 0; i < rounds; i++) {
        open_channel();
        if (i % 2)
            hello();
        for (int n = 0; n < 4; n++) {
            size_t count = 1 + (size_t)random() % sizeof bytes;
            put_random(bytes, count);
            if (put(bytes, count))
                break;
        }
        if (i % 3 == 0)
            drain();
        close(fd);
    }
}

// Records with sizes that are right and contents that aren't.
static void plausible(int rounds)
{
    for (int i = 0; i < rounds; i++) {
        open_channel();
        hello();
        for (int n = 0; n < 50; n++) {
            struct vusb_record r = record((uint16_t)(random() % 20), random() % 2 ? device : (uint16_t)random(),
                                          (uint64_t)random() % 64, 0);
            put_random(r.raw, sizeof r.raw);
            if (put(&r, sizeof r))
                break;
        }
        if (i % 2)
            drain();
        close(fd);
    }
}

static void cut_short(int rounds)
{
    for (int i = 0; i < rounds; i++) {
        open_channel();
        hello();
        struct vusb_record r = get_descriptor(1);
        r.size = htole32(sizeof r + 1000);
        put(&r, 1 + (size_t)random() % (sizeof r - 1));
        close(fd);
    }
}

// As many as it takes until vusbd has had enough, without ever reading: slots and bytes are bounded by credits.
static void never_reads(void)
{
    open_channel();
    hello();
    for (uint64_t i = 0; i < submits; i++) {
        struct vusb_record r = bulk_in(i % VUSB_MAX_URBS | (i / VUSB_MAX_URBS) << 16, 65536);
        if (put(&r, sizeof r))
            break;
    }
    if (!refusals) {
        fprintf(stderr, "%d submits without a read were all taken\n", submits);
        failures++;
    }
    close(fd);
}

static void pings(void)
{
    open_channel();
    hello();
    for (uint64_t i = 0; i < submits; i++) {
        struct vusb_record r = record(VUSB_PING, 0, i, 0);
        if (put(&r, sizeof r))
            break;
    }
    close(fd);
}

static void report(const char *what)
{
    printf("%-32s %6d calls %6d refused\n", what, calls, refusals);
    fflush(stdout);
    calls = refusals = 0;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: hostile HCD DEVICE SEED\n");
        return 2;
    }
    path = argv[1];
    device = (uint16_t)atoi(argv[2]);
    srandom((unsigned)atoi(argv[3]));

    rule_breakers();
    report("broken rules");
    replays();
    report("replayed ids");
    never_reads();
    report("submits without a read");
    pings();
    report("pings without a read");
    noise(200);
    report("noise");
    plausible(200);
    report("records full of noise");
    cut_short(100);
    report("records cut short");
    return failures ? 1 : 0;
}
