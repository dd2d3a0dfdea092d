/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "CVUSBShimsUevent.h"

#include <errno.h>
#include <linux/netlink.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int CVUSBShims_enter_network(int namespace_fd)
{
	return setns(namespace_fd, CLONE_NEWNET) == 0 ? 0 : -errno;
}

int CVUSBShims_uevent_socket(void)
{
	struct sockaddr_nl own = { .nl_family = AF_NETLINK };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT);

	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&own, sizeof(own)) < 0) {
		int error = errno;

		close(fd);
		return -error;
	}
	return fd;
}

int CVUSBShims_uevent_send(int fd, unsigned int group, unsigned int id, const void *bytes, unsigned long count)
{
	struct sockaddr_nl to = { .nl_family = AF_NETLINK, .nl_groups = group };
	struct iovec data = { .iov_base = (void *)bytes, .iov_len = count };
	struct ucred sender = { .pid = getpid(), .uid = id, .gid = id };
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(struct ucred))];
	} control;
	struct msghdr message = {
		.msg_name = &to,
		.msg_namelen = sizeof(to),
		.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};

	memset(&control, 0, sizeof(control));
	control.header.cmsg_level = SOL_SOCKET;
	control.header.cmsg_type = SCM_CREDENTIALS;
	control.header.cmsg_len = CMSG_LEN(sizeof(struct ucred));
	memcpy(CMSG_DATA(&control.header), &sender, sizeof(sender));
	while (sendmsg(fd, &message, 0) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	return 0;
}

int CVUSBShims_uevent_answer(int fd, int milliseconds)
{
	struct {
		struct nlmsghdr header;
		struct nlmsgerr error;
		/* An extended answer quotes what it's about. */
		char rest[4096];
	} answer;
	struct pollfd ready = { .fd = fd, .events = POLLIN };
	int count;

	while ((count = poll(&ready, 1, milliseconds)) < 0 && errno == EINTR)
		;
	if (count == 0)
		return -ETIMEDOUT;
	if (count < 0 || recv(fd, &answer, sizeof(answer), MSG_DONTWAIT) < 0)
		return -errno;
	if (answer.header.nlmsg_type != NLMSG_ERROR || answer.header.nlmsg_len < NLMSG_LENGTH(sizeof(answer.error)))
		return -EPROTO;
	return answer.error.error;
}
