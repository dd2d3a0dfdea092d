/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The records of the channel to a guest's module, in their one definition. */
#include "../../../kmod-shim/uapi/vusb_abi.h"

/* Swift reads and writes the fields by their offsets: they are the protocol's, whatever the compiler. */
_Static_assert(sizeof(struct vusb_record) == 48, "a record's head");
_Static_assert(sizeof(struct vusb_iso_packet) == 12, "an entry of a packet table");
