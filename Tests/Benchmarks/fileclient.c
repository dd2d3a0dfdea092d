/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads or writes a file as fast as it goes and prints what that took, on one line:
 *   OPS BYTES SECONDS P50_US P99_US
 * Usage: fileclient FILE read|write SIZE THREADS SECONDS. Each thread has a descriptor of its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MOST_SAMPLES = 1 << 20 };

struct worker {
	pthread_t thread;
	const char *path;
	int is_write;
	size_t size;
	double seconds;
	size_t count;
	float *samples;
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void *work(void *argument)
{
	struct worker *worker = argument;
	int file = open(worker->path, worker->is_write ? O_WRONLY : O_RDONLY);
	char *buffer = aligned_alloc(4096, (worker->size + 4095) & ~(size_t)4095);
	double end = now() + worker->seconds, begun = now();

	if (file < 0) {
		perror(worker->path);
		exit(1);
	}
	memset(buffer, 0, worker->size);
	while (begun < end) {
		ssize_t count = worker->is_write ? write(file, buffer, worker->size) : read(file, buffer, worker->size);
		double done = now();

		if (count != (ssize_t)worker->size) {
			fprintf(stderr, "%s: %zd of %zu: %s\n", worker->path, count, worker->size, strerror(errno));
			exit(1);
		}
		if (worker->count < MOST_SAMPLES)
			worker->samples[worker->count] = (done - begun) * 1e6;
		worker->count++;
		begun = done;
	}
	return NULL;
}

static int compare(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	int threads = argc == 6 ? atoi(argv[4]) : 0;
	struct worker *workers = calloc(threads > 0 ? threads : 1, sizeof(*workers));
	size_t ops = 0, kept = 0;
	double begun = now(), taken;
	float *all;

	if (threads < 1)
		return 2;
	for (int i = 0; i < threads; i++) {
		workers[i] = (struct worker){ .path = argv[1], .is_write = strcmp(argv[2], "write") == 0,
			.size = strtoul(argv[3], NULL, 10), .seconds = atof(argv[5]),
			.samples = malloc(sizeof(float) * MOST_SAMPLES) };
		pthread_create(&workers[i].thread, NULL, work, &workers[i]);
	}
	all = malloc(sizeof(float) * MOST_SAMPLES * threads);
	for (int i = 0; i < threads; i++) {
		size_t count;

		pthread_join(workers[i].thread, NULL);
		count = workers[i].count < MOST_SAMPLES ? workers[i].count : MOST_SAMPLES;
		memcpy(all + kept, workers[i].samples, count * sizeof(float));
		ops += workers[i].count;
		kept += count;
	}
	taken = now() - begun;
	qsort(all, kept, sizeof(float), compare);
	printf("%zu %zu %.6f %.2f %.2f\n", ops, ops * workers[0].size, taken, all[kept / 2], all[kept * 99 / 100]);
	return 0;
}
