// SPDX-License-Identifier: Apache-2.0
//
// api PATH [JSON]    GET /v1/PATH of vusbd, or POST where there is JSON; the answer's body goes to standard output
//
// For what a case asks again and again: starting vusbctl takes a second under software emulation, this a hundredth.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void must(int holds, const char *what)
{
    if (holds)
        return;
    perror(what);
    exit(1);
}

// Takes the chunks' lengths out of a body, in place.
static void join_chunks(char *body)
{
    char *to = body, *from = body, *end;
    size_t length;

    while ((length = strtoul(from, &end, 16)) > 0 && strncmp(end, "\r\n", 2) == 0 && length <= strlen(end + 2)) {
        memmove(to, end + 2, length);
        to += length;
        from = end + 2 + length;
    }
    *to = 0;
}

int main(int argc, char **argv)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    static char answer[4 << 20];
    size_t count = 0;
    ssize_t piece;

    if (argc < 2 || argc > 3) {
        fputs("usage: api PATH [JSON]\n", stderr);
        return 2;
    }
    const char *json = argc > 2 ? argv[2] : "";
    strcpy(address.sun_path, "/run/vusb/vusb.sock");
    int connection = socket(AF_UNIX, SOCK_STREAM, 0);
    must(connection >= 0 && connect(connection, (struct sockaddr *)&address, sizeof address) == 0, address.sun_path);
    must(dprintf(connection, "%s /v1/%s HTTP/1.1\r\nHost: vusb\r\nConnection: close\r\nContent-Type: application/json\r\n"
                             "Content-Length: %zu\r\n\r\n%s", *json ? "POST" : "GET", argv[1], strlen(json), json) > 0,
         "request");
    while ((piece = read(connection, answer + count, sizeof answer - 1 - count)) > 0)
        count += (size_t)piece;
    must(piece == 0, "answer");
    char *body = strstr(answer, "\r\n\r\n");
    if (strncmp(answer, "HTTP/1.1 20", 11) != 0 || !body) {
        fprintf(stderr, "api %s: an answer of another kind: %.200s\n", argv[1], answer);
        return 1;
    }
    *body = 0;
    body += 4;
    if (strcasestr(answer, "\r\ntransfer-encoding: chunked"))
        join_chunks(body);
    fputs(body, stdout);
    return 0;
}
