/* SPDX-License-Identifier: Apache-2.0
 *
 * echo PORT: answers 48 bytes with the same 48 bytes, on loopback, one connection after the other, in one thread: the
 * floor that a USB/IP server is measured against.
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static int serve(int peer)
{
	char bytes[48];

	for (;;) {
		size_t count = 0;

		while (count < sizeof(bytes)) {
			ssize_t more = recv(peer, bytes + count, sizeof(bytes) - count, 0);

			if (more <= 0)
				return 0;
			count += more;
		}
		if (send(peer, bytes, sizeof(bytes), MSG_NOSIGNAL) != sizeof(bytes))
			return 0;
	}
}

int main(int argc, char **argv)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);

	if (argc != 2)
		return fprintf(stderr, "usage: echo PORT\n"), 2;
	address.sin_port = htons(atoi(argv[1]));
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) || listen(listener, 1))
		return perror("echo"), 1;
	for (;;) {
		int peer = accept(listener, NULL, NULL);

		if (peer < 0)
			return perror("accept"), 1;
		setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		serve(peer);
		close(peer);
	}
}
