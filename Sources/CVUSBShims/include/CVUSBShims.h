/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
#include "CVUSBShimsProcess.h"
#include "CVUSBShimsHost.h"
#include "CVUSBShimsThread.h"
#include "CVUSBShimsFile.h"
#include "CVUSBShimsChannel.h"
#include "CVUSBShimsModule.h"
#include "CVUSBShimsSocket.h"
#include "CVUSBShimsUevent.h"
