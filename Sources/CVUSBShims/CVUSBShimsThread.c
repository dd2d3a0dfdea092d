/* SPDX-License-Identifier: Apache-2.0 */
#include "CVUSBShimsThread.h"

#include <sys/prctl.h>

void CVUSBShims_set_thread_name(const char *name)
{
	prctl(PR_SET_NAME, name);
}

void CVUSBShims_set_timer_slack(unsigned long nanoseconds)
{
	prctl(PR_SET_TIMERSLACK, nanoseconds);
}
