/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* For VUSBIP: vsock addresses and struct ucred aren't part of Swift's Glibc module. Each returns -1 with errno. */

/* A listening stream socket at a port of all context ids of this host, non-blocking and closed on exec. */
int CVUSBShims_vsock_listen(unsigned port, int backlog);

/* The peer's context id. */
int CVUSBShims_vsock_peer(int fd, unsigned *cid);

/* Who was at the other end of a Unix socket when it was connected. */
int CVUSBShims_unix_peer(int fd, unsigned *uid, unsigned *gid, int *pid);

/* Whether the path, no link, is a socket: 1 or 0. In C because `struct stat` belongs to whichever Clang module Swift saw
 * first. */
int CVUSBShims_is_socket(const char *path);
