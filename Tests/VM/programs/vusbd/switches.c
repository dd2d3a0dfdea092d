// SPDX-License-Identifier: Apache-2.0
//
// switches DEVICE TIMES GUEST OTHER    switches the device to GUEST and then to OTHER, so many times, each at once, cancelling
//                                      what is in flight
//
// Prints how many that were. One that doesn't succeed is printed, and ends with 1.
#define _GNU_SOURCE
#include "../api.h"

static int switch_to(const char *device, const char *guest)
{
    char path[256], json[256];

    snprintf(path, sizeof path, "devices/%s/switch", device);
    snprintf(json, sizeof json, "{\"guest\": \"%s\", \"deadlineSeconds\": 0, \"onDeadline\": \"cancel\"}", guest);
    char *body = api_ask(path, json), *id = body ? strstr(body, "\"id\":") : NULL;
    if (!id)
        return 0;
    snprintf(path, sizeof path, "operations/%ld?wait=60", atol(id + 5));
    body = api_ask(path, NULL);
    if (body && strstr(body, "\"state\":\"succeeded\""))
        return 1;
    fprintf(stderr, "switch of %s to %s: %s\n", device, guest, body ? body : "no answer");
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fputs("usage: switches DEVICE TIMES GUEST OTHER\n", stderr);
        return 2;
    }
    long times = atol(argv[2]);
    for (long i = 0; i < times; i++)
        if (!switch_to(argv[1], argv[3]) || !switch_to(argv[1], argv[4]))
            return 1;
    printf("%s: %ld switches\n", argv[1], 2 * times);
    return 0;
}
