/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counts allocations of a program, by who makes them: libfuse, which allocates once for each request; the threads that
 * carry transfers, whose names begin with "vusb-"; and all other threads.
 * Usage: LD_PRELOAD=malloccount.so MALLOCCOUNT=FILE program. The counts lie in FILE, mapped shared, so that another
 * process reads them at any moment without disturbing this one: three 64-bit numbers, in the order above.
 *
 * libfuse is known by the return address. Memory that the C library takes for itself isn't seen.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

/* What glibc's own functions are called when these stand in for them. */
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

struct counts {
	_Atomic uint64_t libfuse;
	_Atomic uint64_t transfers;
	_Atomic uint64_t others;
};

static struct counts before_start;
static struct counts *counts = &before_start;
static uintptr_t libfuse_start, libfuse_end;

static void count(const void *caller)
{
	uintptr_t address = (uintptr_t)caller;
	_Atomic uint64_t *counter = &counts->others;
	char name[16] = "";

	if (address >= libfuse_start && address < libfuse_end)
		counter = &counts->libfuse;
	else if (prctl(PR_GET_NAME, name) == 0 && strncmp(name, "vusb-", 5) == 0)
		counter = &counts->transfers;
	atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

static int find_libfuse(struct dl_phdr_info *object, size_t size, void *data)
{
	(void)size;
	(void)data;
	if (!strstr(object->dlpi_name, "libfuse3.so"))
		return 0;
	libfuse_start = object->dlpi_addr;
	for (int i = 0; i < object->dlpi_phnum; i++) {
		uintptr_t end = object->dlpi_addr + object->dlpi_phdr[i].p_vaddr + object->dlpi_phdr[i].p_memsz;

		if (object->dlpi_phdr[i].p_type == PT_LOAD && end > libfuse_end)
			libfuse_end = end;
	}
	return 1;
}

__attribute__((constructor)) static void start(void)
{
	const char *path = getenv("MALLOCCOUNT");
	int file = path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
	void *mapped;

	dl_iterate_phdr(find_libfuse, NULL);
	if (file < 0)
		return;
	if (ftruncate(file, sizeof(struct counts)) == 0) {
		mapped = mmap(NULL, sizeof(struct counts), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
		if (mapped != MAP_FAILED)
			counts = mapped;
	}
	close(file);
}

void *malloc(size_t size)
{
	count(__builtin_return_address(0));
	return __libc_malloc(size);
}

void *calloc(size_t number, size_t size)
{
	count(__builtin_return_address(0));
	return __libc_calloc(number, size);
}

void *realloc(void *memory, size_t size)
{
	count(__builtin_return_address(0));
	return __libc_realloc(memory, size);
}

void *memalign(size_t alignment, size_t size)
{
	count(__builtin_return_address(0));
	return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
	count(__builtin_return_address(0));
	return __libc_memalign(alignment, size);
}

int posix_memalign(void **memory, size_t alignment, size_t size)
{
	void *got;

	count(__builtin_return_address(0));
	if (alignment < sizeof(void *) || (alignment & (alignment - 1)) != 0)
		return EINVAL;
	got = __libc_memalign(alignment, size);
	if (!got)
		return ENOMEM;
	*memory = got;
	return 0;
}
