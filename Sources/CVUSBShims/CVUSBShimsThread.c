/* SPDX-License-Identifier: Apache-2.0 */
#include "CVUSBShimsThread.h"

#include <sys/prctl.h>

void CVUSBShims_set_thread_name(const char *name)
{
	prctl(PR_SET_NAME, name);
}
