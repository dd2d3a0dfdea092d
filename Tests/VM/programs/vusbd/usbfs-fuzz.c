// SPDX-License-Identifier: Apache-2.0
//
// usbfs-fuzz NODE [COUNT [SEED]]    COUNT random ioctls of usbfs on a node, 10000 unless said otherwise
//
// Numbers, sizes, pointers and what they point to are random, but biased to what is nearly right. Several openers,
// several threads, one of which changes the memory meanwhile. Prints the seed, and in the end how many were answered how.
// With what is left open it exits: the node must be usable afterwards. Ends with 1 where a call hangs for 30 seconds.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/usbdevice_fs.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

enum { most_openers = 4, threads = 3, urbs = 16, area_size = 1 << 20, hang_seconds = 30, errnos = 256 };

static const char *node;
static int openers[most_openers];
// Readable and writable, but for its last page, which can't be read.
static uint8_t *area;
// Below 4 GiB, for the 32-bit forms.
static uint8_t *low;
static long calls_each;
static unsigned answers[errnos];
static unsigned is_over;

struct thread {
    pthread_t id;
    uint64_t state;
    unsigned beat;
};

// xorshift64*: the same on every machine.
static uint64_t draw(struct thread *t)
{
    t->state ^= t->state >> 12;
    t->state ^= t->state << 25;
    t->state ^= t->state >> 27;
    return t->state * 0x2545f4914f6cdd1dULL;
}

static uint32_t below(struct thread *t, uint32_t limit) { return (uint32_t)(draw(t) >> 33) % limit; }

// A number that is small, a power of two or one beside it, a limit of usbfs, or anything.
static uint32_t length(struct thread *t)
{
    static const uint32_t limits[] = {0, 1, 8, 63, 64, 511, 512, 513, 4096, 4097, 16384, 126976, 126977, 131072, 524288,
                                      1 << 24, 0x7fffffff, 0xffffffff};
    switch (below(t, 4)) {
    case 0: return below(t, 1024);
    case 1: return 512 * below(t, 64);
    case 2: return limits[below(t, sizeof limits / sizeof *limits)];
    default: return below(t, 8) ? below(t, 65536) : (uint32_t)draw(t);
    }
}

static uint64_t pointer(struct thread *t)
{
    switch (below(t, 16)) {
    case 0: return 0;
    case 1: return draw(t);
    case 2: return (uintptr_t)area + area_size - below(t, 8192);
    case 3: return (uintptr_t)low + below(t, area_size);
    case 4: return UINT64_MAX - below(t, 4096);
    default: return (uintptr_t)area + below(t, area_size - 8192);
    }
}

static uint32_t endpoint(struct thread *t)
{
    static const uint8_t likely[] = {0x00, 0x80, 0x81, 0x02, 0x01, 0x82, 0x83, 0x04, 0x85, 0x06};
    return below(t, 8) ? likely[below(t, sizeof likely)] : (uint32_t)draw(t);
}

static uint32_t interface(struct thread *t) { return below(t, 8) ? below(t, 3) : (uint32_t)draw(t); }

// Where a URB may be: few places, so that discards and reaps meet them.
static uint8_t *urb_place(struct thread *t, int is_low)
{
    return (is_low ? low : area) + 4096 * (size_t)below(t, urbs);
}

static void fill_urb(struct thread *t, uint8_t *place)
{
    struct usbdevfs_urb urb = {
        .type = below(t, 8) ? below(t, 4) : (unsigned char)draw(t),
        .endpoint = (unsigned char)endpoint(t),
        .flags = below(t, 4) ? below(t, 8) : (unsigned)draw(t),
        .buffer = (void *)(uintptr_t)pointer(t),
        .buffer_length = (int)length(t),
        .number_of_packets = below(t, 8) ? (int)below(t, 130) : (int)draw(t),
        .signr = below(t, 16) ? 0 : (unsigned)draw(t),
    };

    memcpy(place, &urb, sizeof urb);
    for (int i = 0; i < 128; i++) {
        struct usbdevfs_iso_packet_desc packet = {.length = below(t, 16) ? below(t, 1025) : length(t)};

        memcpy(place + sizeof urb + i * sizeof packet, &packet, sizeof packet);
    }
}

struct call {
    unsigned long number;
    unsigned long argument;
};

static struct call submit(struct thread *t)
{
    uint8_t *place = urb_place(t, 0);

    fill_urb(t, place);
    return (struct call){USBDEVFS_SUBMITURB, (uintptr_t)place};
}

// `struct usbdevfs_urb` of a 32-bit program has 44 bytes: any bytes do.
static struct call submit_compat(struct thread *t)
{
    uint8_t *place = urb_place(t, 1);
    uint32_t buffer = (uint32_t)(uintptr_t)low + below(t, area_size), size = length(t);

    fill_urb(t, place);
    memcpy(place + 12, &buffer, 4);
    memcpy(place + 16, &size, 4);
    return (struct call){_IOC(_IOC_READ, 'U', 10, 44), (uintptr_t)place};
}

static struct call transfer(struct thread *t)
{
    uint8_t *place = area + 65536 + 64 * (size_t)below(t, 64);
    struct usbdevfs_ctrltransfer control = {
        (uint8_t)draw(t), (uint8_t)below(t, 16), (uint16_t)below(t, 4), (uint16_t)endpoint(t), (uint16_t)length(t),
        1 + below(t, 20), (void *)(uintptr_t)pointer(t)};
    struct usbdevfs_bulktransfer bulk = {endpoint(t), length(t), 1 + below(t, 20), (void *)(uintptr_t)pointer(t)};

    if (below(t, 2)) {
        memcpy(place, &control, sizeof control);
        return (struct call){USBDEVFS_CONTROL, (uintptr_t)place};
    }
    memcpy(place, &bulk, sizeof bulk);
    return (struct call){USBDEVFS_BULK, (uintptr_t)place};
}

static struct call small(struct thread *t)
{
    static const unsigned long numbers[] = {
        USBDEVFS_RESETEP, USBDEVFS_SETINTERFACE, USBDEVFS_SETCONFIGURATION, USBDEVFS_GETDRIVER, USBDEVFS_DISCSIGNAL,
        USBDEVFS_CLAIMINTERFACE, USBDEVFS_CLAIMINTERFACE, USBDEVFS_RELEASEINTERFACE, USBDEVFS_CONNECTINFO,
        USBDEVFS_IOCTL, USBDEVFS_RESET, USBDEVFS_CLEAR_HALT, USBDEVFS_CLAIM_PORT, USBDEVFS_RELEASE_PORT,
        USBDEVFS_GET_CAPABILITIES, USBDEVFS_DISCONNECT_CLAIM, USBDEVFS_ALLOC_STREAMS, USBDEVFS_FREE_STREAMS,
        USBDEVFS_GET_SPEED, USBDEVFS_CONNINFO_EX(24), USBDEVFS_CONNINFO_EX(3), USBDEVFS_CONNINFO_EX(8191)};
    uint8_t *place = area + 131072 + 512 * (size_t)below(t, 64);
    uint32_t words[2] = {interface(t), below(t, 4) ? below(t, 3) : (uint32_t)draw(t)};

    if (below(t, 3) == 0)
        words[0] = endpoint(t);
    memcpy(place, words, sizeof words);
    return (struct call){numbers[below(t, sizeof numbers / sizeof *numbers)], (uintptr_t)place};
}

static struct call any(struct thread *t)
{
    unsigned size = below(t, 2) ? below(t, 64) : below(t, 16384);

    // Dropping privileges can't be undone, and would end the rest of the test.
    unsigned code = below(t, 40);
    return (struct call){_IOC(below(t, 4), below(t, 8) ? 'U' : below(t, 256), code == 30 ? 31 : code, size), pointer(t)};
}

static struct call next_call(struct thread *t)
{
    switch (below(t, 16)) {
    case 0 ... 4: return submit(t);
    case 5: return submit_compat(t);
    case 6: return (struct call){USBDEVFS_DISCARDURB, (uintptr_t)urb_place(t, (int)below(t, 2))};
    case 7 ... 9: return (struct call){USBDEVFS_REAPURBNDELAY, below(t, 16) ? (uintptr_t)area + 200000 : pointer(t)};
    case 10: return (struct call){_IOC(_IOC_WRITE, 'U', 13, 4), (uintptr_t)low + 200000};
    case 11: return transfer(t);
    case 12 ... 14: return small(t);
    default: return any(t);
    }
}

static void reopen(struct thread *t)
{
    unsigned which = below(t, most_openers);
    int fd = open(node, below(t, 8) ? O_RDWR : O_RDONLY);

    // Another thread may be at work on the old one: that's the point.
    if (fd >= 0 && dup2(fd, openers[which]) >= 0)
        close(fd);
}

static void note(int result)
{
    unsigned code = result < 0 ? (unsigned)errno : 0;

    __atomic_add_fetch(&answers[code < errnos ? code : errnos - 1], 1, __ATOMIC_RELAXED);
}

static void *work(void *argument)
{
    struct thread *t = argument;

    for (long i = 0; i < calls_each; i++) {
        int fd = openers[below(t, most_openers)];
        struct call call = next_call(t);
        // What waits for ever is no fault of the node.
        int waits = call.number == USBDEVFS_REAPURB || call.number == _IOC(_IOC_WRITE, 'U', 12, 4);

        if (!waits)
            note(ioctl(fd, call.number, call.argument));
        if (below(t, 64) == 0)
            reopen(t);
        if (below(t, 16) == 0) {
            struct pollfd poller = {fd, POLLOUT | POLLIN, 0};
            poll(&poller, 1, (int)below(t, 3));
        }
        if (below(t, 32) == 0)
            note((int)read(fd, (void *)(uintptr_t)pointer(t), below(t, 4096)));
        __atomic_add_fetch(&t->beat, 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

// Changes structures between the rounds of a call.
static void *meddle(void *argument)
{
    struct thread *t = argument;

    while (!__atomic_load_n(&is_over, __ATOMIC_RELAXED)) {
        ((volatile uint8_t *)area)[4096 * below(t, urbs) + below(t, 64)] = (uint8_t)draw(t);
        usleep(below(t, 200));
    }
    return NULL;
}

static void prepare(uint64_t seed, struct thread *all)
{
    area = mmap(NULL, area_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    low = mmap(NULL, area_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    if (area == MAP_FAILED || low == MAP_FAILED || mprotect(area + area_size - 4096, 4096, PROT_NONE) != 0) {
        perror("memory");
        exit(1);
    }
    for (int i = 0; i < most_openers; i++) {
        openers[i] = open(node, O_RDWR);
        if (openers[i] < 0) {
            perror(node);
            exit(1);
        }
    }
    for (int i = 0; i <= threads; i++)
        all[i] = (struct thread){.state = (seed + 1) * 0x9e3779b97f4a7c15ULL + (uint64_t)i * 0xd1342543de82ef95ULL};
}

// Waits for the workers; a thread that makes no call for so long hangs.
static int watch(struct thread *all)
{
    unsigned last[threads] = {0};
    int idle = 0;

    for (;;) {
        int running = 0, has_moved = 0;

        for (int i = 0; i < threads; i++) {
            unsigned beat = __atomic_load_n(&all[i].beat, __ATOMIC_RELAXED);
            running += beat < (unsigned long)calls_each;
            has_moved |= beat != last[i];
            last[i] = beat;
        }
        if (!running)
            return 0;
        idle = has_moved ? 0 : idle + 1;
        if (idle > hang_seconds * 10)
            return 1;
        usleep(100000);
    }
}

int main(int argc, char **argv)
{
    struct thread all[threads + 1];
    uint64_t seed = 0;

    if (argc < 2 || argc > 4) {
        fputs("usage: usbfs-fuzz NODE [COUNT [SEED]]\n", stderr);
        return 2;
    }
    node = argv[1];
    long count = argc > 2 ? strtol(argv[2], NULL, 0) : 10000;
    if (argc > 3)
        seed = strtoull(argv[3], NULL, 0);
    else if (getrandom(&seed, sizeof seed, 0) != sizeof seed)
        return 1;
    printf("seed %#llx\n", (unsigned long long)seed);
    fflush(stdout);
    calls_each = count / threads + 1;
    prepare(seed, all);
    for (int i = 0; i <= threads; i++)
        if (pthread_create(&all[i].id, NULL, i < threads ? work : meddle, &all[i]) != 0)
            return 1;
    if (watch(all) != 0) {
        printf("a call hangs\n");
        return 1;
    }
    __atomic_store_n(&is_over, 1, __ATOMIC_RELAXED);
    for (int i = 0; i <= threads; i++)
        pthread_join(all[i].id, NULL);
    for (unsigned i = 0; i < errnos; i++)
        if (answers[i] != 0)
            printf("%s %u\n", i == 0 ? "ok" : strerrorname_np((int)i) ? strerrorname_np((int)i) : "other", answers[i]);
    return 0;
}
