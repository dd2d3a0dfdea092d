// SPDX-License-Identifier: Apache-2.0
//
// One request to vusbd's control socket, which is VUSB_SOCKET's, as vusbctl's is.
#ifndef VUSB_TESTS_API_H
#define VUSB_TESTS_API_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static char api_answer[4 << 20];

// Takes the chunks' lengths out of a body, in place.
static void api_join_chunks(char *body)
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

// The body of the answer to GET /v1/PATH, or POST where there is JSON, until the next request; NULL where there is none, and
// that is said.
static char *api_ask(const char *path, const char *json)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *place = getenv("VUSB_SOCKET");
    int connection = socket(AF_UNIX, SOCK_STREAM, 0);
    size_t count = 0;
    ssize_t piece = -1;

    strncpy(address.sun_path, place ? place : "/run/vusb/vusb.sock", sizeof address.sun_path - 1);
    if (connection >= 0 && connect(connection, (struct sockaddr *)&address, sizeof address) == 0 &&
        dprintf(connection,
                "%s /v1/%s HTTP/1.1\r\nHost: vusb\r\nConnection: close\r\nContent-Type: application/json\r\n"
                "Content-Length: %zu\r\n\r\n%s",
                json ? "POST" : "GET", path, json ? strlen(json) : 0, json ? json : "") > 0)
        while ((piece = read(connection, api_answer + count, sizeof api_answer - 1 - count)) > 0)
            count += (size_t)piece;
    if (piece != 0)
        perror(address.sun_path);
    close(connection);
    api_answer[count] = 0;
    char *body = piece == 0 ? strstr(api_answer, "\r\n\r\n") : NULL;
    if (!body || strncmp(api_answer, "HTTP/1.1 20", 11) != 0) {
        fprintf(stderr, "api %s: an answer of another kind: %.400s\n", path, api_answer);
        return NULL;
    }
    *body = 0;
    body += 4;
    if (strcasestr(api_answer, "\r\ntransfer-encoding: chunked"))
        api_join_chunks(body);
    return body;
}

#endif
