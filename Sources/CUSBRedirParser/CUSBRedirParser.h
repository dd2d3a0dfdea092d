/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <usbredirfilter.h>
#include <usbredirparser.h>
#include <usbredirproto.h>
