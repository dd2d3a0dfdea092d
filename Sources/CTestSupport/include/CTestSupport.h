// SPDX-License-Identifier: Apache-2.0

#ifndef CTESTSUPPORT_H
#define CTESTSUPPORT_H

#include <stdint.h>

// The golden records of kmod-shim/test/vectors.h, by index. Not their structs: those come from the protocol's header,
// which another module has.
int CTestSupport_vector_count(void);
const char *CTestSupport_vector_name(int index);
const uint8_t *CTestSupport_vector_bytes(int index);
unsigned int CTestSupport_vector_byte_count(int index);
unsigned int CTestSupport_vector_size(int index);
unsigned int CTestSupport_vector_type(int index);
unsigned int CTestSupport_vector_device(int index);
uint64_t CTestSupport_vector_id(int index);
// 0-6
int64_t CTestSupport_vector_field(int index, int field);

#endif
