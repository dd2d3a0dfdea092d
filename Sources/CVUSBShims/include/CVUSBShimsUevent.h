/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* For VUSBUevent: a socket of NETLINK_KOBJECT_UEVENT in another network namespace, and credentials on its messages.
 * setns(2), struct ucred and the CMSG macros aren't part of Swift's Glibc module. */

/* Moves the calling thread, and it alone, into the network namespace: 0 or a negative errno. A thread that this has
 * succeeded on is good for nothing but to make sockets there. */
int CVUSBShims_enter_network(int namespace_fd);

/* A netlink socket for uevents, bound, in no group, closed on exec: its descriptor or a negative errno. */
int CVUSBShims_uevent_socket(void);

/* Sends one message from user and group `id`: to the kernel (group 0, a netlink message with its header) or to all
 * who listen to the group, be it nobody. 0 or a negative errno: ECONNREFUSED where the kernel takes no messages, which
 * it's asked in both cases. */
int CVUSBShims_uevent_send(int fd, unsigned int group, unsigned int id, const void *bytes, unsigned long count);

/* Waits for the kernel's answer to a message with NLM_F_ACK, at most `milliseconds`: 0 or a negative errno. */
int CVUSBShims_uevent_answer(int fd, int milliseconds);
