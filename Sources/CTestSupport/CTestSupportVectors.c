// SPDX-License-Identifier: Apache-2.0

#include "CTestSupport.h"

#include "../../kmod-shim/test/vectors.h"

int CTestSupport_vector_count(void) { return VUSB_VECTORS; }

const char *CTestSupport_vector_name(int index) { return vusb_vectors[index].name; }

const uint8_t *CTestSupport_vector_bytes(int index) { return vusb_vectors[index].bytes; }

unsigned int CTestSupport_vector_byte_count(int index) { return vusb_vectors[index].count; }

unsigned int CTestSupport_vector_size(int index) { return vusb_vectors[index].size; }

unsigned int CTestSupport_vector_type(int index) { return vusb_vectors[index].type; }

unsigned int CTestSupport_vector_device(int index) { return vusb_vectors[index].device; }

uint64_t CTestSupport_vector_id(int index) { return vusb_vectors[index].id; }

int64_t CTestSupport_vector_field(int index, int field) { return vusb_vectors[index].field[field]; }
