/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* prctl(2) is variadic, which Swift can't call. Names the calling thread; 15 characters are kept. */
void CVUSBShims_set_thread_name(const char *name);
