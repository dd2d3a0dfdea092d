/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads or writes a file as fast as it goes and prints what that took, on one line:
 *   OPS BYTES SECONDS P50_US P99_US
 * Usage: fileclient FILE read|write|reread SIZE THREADS SECONDS [PERIOD_US]. Each thread has a descriptor of its own.
 * With a period, a thread begins a call each time that passes, or at once when it's late. `reread` opens the file anew
 * when it's gone: only what was read counts. SIGTERM ends it as if the time were over.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MOST_SAMPLES = 1 << 20 };

static volatile sig_atomic_t stopped;

struct worker {
	pthread_t thread;
	const char *path;
	int is_write;
	int is_patient;
	size_t size;
	double seconds;
	double period;
	size_t count;
	float *samples;
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static double wait_until(double moment)
{
	struct timespec t = { .tv_sec = (time_t)moment, .tv_nsec = (long)((moment - (time_t)moment) * 1e9) };

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
	return now();
}

static void fail(struct worker *worker, ssize_t count)
{
	fprintf(stderr, "%s: %zd of %zu: %s\n", worker->path, count, worker->size, strerror(errno));
	exit(1);
}

static void keep(struct worker *worker, double seconds)
{
	if (worker->count < MOST_SAMPLES)
		worker->samples[worker->count] = seconds * 1e6;
	worker->count++;
}

static void *work(void *argument)
{
	struct worker *worker = argument;
	int flags = worker->is_write ? O_WRONLY : O_RDONLY, file = open(worker->path, flags);
	char *buffer = aligned_alloc(4096, (worker->size + 4095) & ~(size_t)4095);
	double begun = now(), next = begun, end = begun + worker->seconds;

	if (file < 0 && !worker->is_patient)
		fail(worker, -1);
	memset(buffer, 0, worker->size);
	while (begun < end && !stopped) {
		ssize_t count = worker->is_write ? write(file, buffer, worker->size) : read(file, buffer, worker->size);
		double done = now();

		if (count == (ssize_t)worker->size) {
			keep(worker, done - begun);
		} else if (worker->is_patient) {
			close(file);
			file = open(worker->path, flags);
		} else {
			fail(worker, count);
		}
		next += worker->period;
		if (next > done)
			begun = wait_until(next);
		else
			begun = next = done;
	}
	return NULL;
}

static int compare(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

static void stop(int number)
{
	(void)number;
	stopped = 1;
}

/* The workers have it blocked: no call of theirs is interrupted. */
static void mask_stop(int how)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	pthread_sigmask(how, &set, NULL);
}

int main(int argc, char **argv)
{
	int threads = argc == 6 || argc == 7 ? atoi(argv[4]) : 0;
	struct worker *workers = calloc(threads > 0 ? threads : 1, sizeof(*workers));
	size_t ops = 0, kept = 0;
	double begun = now(), taken;
	float *all;

	if (threads < 1)
		return 2;
	signal(SIGTERM, stop);
	mask_stop(SIG_BLOCK);
	for (int i = 0; i < threads; i++) {
		workers[i] = (struct worker){ .path = argv[1], .is_write = strcmp(argv[2], "write") == 0,
			.is_patient = strcmp(argv[2], "reread") == 0, .size = strtoul(argv[3], NULL, 10),
			.seconds = atof(argv[5]), .period = argc == 7 ? atof(argv[6]) / 1e6 : 0,
			.samples = malloc(sizeof(float) * MOST_SAMPLES) };
		pthread_create(&workers[i].thread, NULL, work, &workers[i]);
	}
	mask_stop(SIG_UNBLOCK);
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
	if (kept == 0)
		all[kept++] = 0;
	qsort(all, kept, sizeof(float), compare);
	printf("%zu %zu %.6f %.2f %.2f\n", ops, ops * workers[0].size, taken, all[kept / 2], all[kept * 99 / 100]);
	return 0;
}
