/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "CVUSBShimsSocket.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

int CVUSBShims_vsock_listen(unsigned port, int backlog)
{
	struct sockaddr_vm address = {
		.svm_family = AF_VSOCK,
		.svm_cid = VMADDR_CID_ANY,
		.svm_port = port,
	};
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, backlog)) {
		int code = errno;

		close(fd);
		errno = code;
		return -1;
	}
	return fd;
}

int CVUSBShims_vsock_peer(int fd, unsigned *cid)
{
	struct sockaddr_vm address = { 0 };
	socklen_t length = sizeof(address);

	if (getpeername(fd, (struct sockaddr *)&address, &length))
		return -1;
	if (address.svm_family != AF_VSOCK) {
		errno = EAFNOSUPPORT;
		return -1;
	}
	*cid = address.svm_cid;
	return 0;
}

int CVUSBShims_unix_peer(int fd, unsigned *uid, unsigned *gid, int *pid)
{
	struct ucred peer;
	socklen_t length = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length))
		return -1;
	*uid = peer.uid;
	*gid = peer.gid;
	*pid = peer.pid;
	return 0;
}

int CVUSBShims_is_socket(const char *path)
{
	struct stat file;

	return lstat(path, &file) == 0 && S_ISSOCK(file.st_mode);
}
