/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* glibc has no wrappers of the module system calls, and syscall(2) is variadic. All return a negative errno. */

/* memfd_create(2), which Swift's Glibc module leaves out: a descriptor with close-on-exec. */
int CVUSBShims_memory_file(const char *name);

/* finit_module(2) without flags: nothing is ever forced. */
int CVUSBShims_finit_module(int fd, const char *parameters);

/* pipe2(2), likewise left out: both ends with close-on-exec, and O_NONBLOCK (fcntl(2) is variadic) for the one that
 * is read only: a program may fail on an output that doesn't block. 0 or a negative errno. */
int CVUSBShims_output_pipe(int *read_end, int *write_end);

/* posix_spawn_file_actions_addclosefrom_np(3), for _GNU_SOURCE only, of a posix_spawn_file_actions_t. 0 or an errno. */
int CVUSBShims_close_above(void *spawn_file_actions, int fd);

/* delete_module(2); flags are O_NONBLOCK and O_TRUNC, of which the second (force) is never to be used. */
int CVUSBShims_delete_module(const char *name, unsigned int flags);
