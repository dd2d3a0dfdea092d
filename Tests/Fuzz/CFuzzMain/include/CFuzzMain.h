// SPDX-License-Identifier: Apache-2.0

#ifndef CFUZZMAIN_H
#define CFUZZMAIN_H

#include <stddef.h>
#include <stdint.h>

#endif
