// SPDX-License-Identifier: Apache-2.0
//
// notified SOCKET SECONDS: binds SOCKET as sd_notify's receiver and waits for READY=1.
// Ends with 0 when it came, with 1 at the deadline.
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

static long long now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static int has_ready_line(char *text)
{
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        if (strcmp(line, "READY=1") == 0)
            return 1;
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(argv[1]) >= sizeof address.sun_path)
        return 2;
    strcpy(address.sun_path, argv[1]);
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        perror(argv[1]);
        return 1;
    }
    long long deadline = now_ms() + atoll(argv[2]) * 1000;
    for (;;) {
        long long left = deadline - now_ms();
        struct pollfd poller = {.fd = fd, .events = POLLIN};
        if (left <= 0 || poll(&poller, 1, (int)left) <= 0)
            return 1;
        char text[4096];
        ssize_t length = recv(fd, text, sizeof text - 1, 0);
        if (length < 0)
            return 1;
        text[length] = 0;
        if (has_ready_line(text)) {
            puts("ready");
            return 0;
        }
    }
}
