// SPDX-License-Identifier: Apache-2.0
//
// diskbench: times direct I/O on a block device, one request at a time.
//
//   diskbench DEVICE read|write|random BLOCK-BYTES COUNT
//
// `read` and `write` go through the device in order and begin anew at its end; `random` reads at places that a fixed
// seed chooses. Prints one line of JSON: bytes, seconds, the processor time of the whole machine in seconds, and the
// median and the 99th percentile of a request in microseconds.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what)
{
	fprintf(stderr, "diskbench: %s: %s\n", what, strerrorname_np(errno));
	exit(1);
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

// Seconds that all processors together have worked: all of the first line of /proc/stat but idle and iowait.
static double busy(void)
{
	unsigned long long value[8] = {0};
	FILE *file = fopen("/proc/stat", "r");

	if (!file || fscanf(file, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &value[0], &value[1], &value[2],
			    &value[3], &value[4], &value[5], &value[6], &value[7]) != 8)
		die("/proc/stat");
	fclose(file);
	return (double)(value[0] + value[1] + value[2] + value[5] + value[6] + value[7]) / sysconf(_SC_CLK_TCK);
}

static int compare(const void *left, const void *right)
{
	double a = *(const double *)left, b = *(const double *)right;

	return (a > b) - (a < b);
}

int main(int count_of_arguments, char **arguments)
{
	if (count_of_arguments != 5) {
		fprintf(stderr, "usage: diskbench DEVICE read|write|random BLOCK-BYTES COUNT\n");
		return 2;
	}
	const char *mode = arguments[2];
	size_t block = strtoul(arguments[3], NULL, 10);
	long count = strtol(arguments[4], NULL, 10);
	int writes = !strcmp(mode, "write"), is_random = !strcmp(mode, "random");
	int file = open(arguments[1], (writes ? O_WRONLY : O_RDONLY) | O_DIRECT);
	uint64_t size;

	if (file < 0 || ioctl(file, BLKGETSIZE64, &size))
		die(arguments[1]);
	uint64_t blocks = size / block;
	double *times = calloc(count, sizeof *times);
	void *buffer;
	if (!block || !blocks || count < 1 || !times || posix_memalign(&buffer, 4096, block)) {
		fprintf(stderr, "diskbench: no such block size or count\n");
		return 2;
	}
	memset(buffer, 0x5a, block);
	srandom(1);

	double busy_before = busy(), begin = now();
	for (long index = 0; index < count; index++) {
		off_t offset = (is_random ? (uint64_t)random() : (uint64_t)index) % blocks * block;
		double start = now();
		ssize_t done = writes ? pwrite(file, buffer, block, offset) : pread(file, buffer, block, offset);

		if (done != (ssize_t)block)
			die(mode);
		times[index] = now() - start;
	}
	double seconds = now() - begin, worked = busy() - busy_before;
	qsort(times, count, sizeof *times, compare);
	printf("{\"bytes\":%llu,\"seconds\":%.6f,\"cpu\":%.3f,\"p50\":%.1f,\"p99\":%.1f}\n",
	       (unsigned long long)block * count, seconds, worked, times[count / 2] * 1e6, times[count * 99 / 100] * 1e6);
	return 0;
}
