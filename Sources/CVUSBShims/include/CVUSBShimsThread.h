/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* prctl(2) is variadic, which Swift can't call. Names the calling thread; 15 characters are kept. */
void CVUSBShims_set_thread_name(const char *name);

/* How late the kernel may wake the calling thread, in nanoseconds; at least 1, and 0 means the default. */
void CVUSBShims_set_timer_slack(unsigned long nanoseconds);
