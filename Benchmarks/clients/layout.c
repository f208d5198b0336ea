// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

// What one cycle of durable appends to several partitions costs, by the way they are laid out; prints one line of JSON.
//   layout DIRECTORY PARTITIONS BYTES CYCLES
// "interleaved": one write-ahead file and one fdatasync, and the same bytes again into a file for each partition, written back later.
// "interleaved_alone": the same without the second write, which readers of one partition would pay for instead.
// "files": a file for each partition, on four threads, each file with its own fdatasync.
// "files_started": the same, after the write-back of all of a thread's files has been started.

#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 4, AHEAD = 16 << 20 };
static char *bytes;
static int partitions, size, cycles, *files;
static int64_t *ends;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static void check(int failed, const char *what) {
    if (failed) perror(what), exit(1);
}

static int create(const char *directory, const char *name, int number) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s-%d", directory, name, number);
    int file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    check(file < 0, path);
    unlink(path);
    return file;
}

// Room is reserved ahead, as the log does.
static void append(int file, int64_t *end, const char *from, int64_t count, int64_t ahead) {
    if (*end / ahead != (*end + count) / ahead || *end == 0)
        check(fallocate(file, FALLOC_FL_KEEP_SIZE, *end / ahead * ahead, ahead * (2 + count / ahead)) != 0, "fallocate");
    check(pwrite(file, from, count, *end) != count, "pwrite");
    *end += count;
}

static int starts_writeback;
static pthread_barrier_t barrier;

static void *work(void *context) {
    int first = (int)(intptr_t)context;
    for (int cycle = 0; cycle < cycles; cycle++) {
        pthread_barrier_wait(&barrier);
        for (int index = first; index < partitions; index += THREADS) append(files[index], &ends[index], bytes, size, AHEAD / partitions + 65536);
        if (starts_writeback)
            for (int index = first; index < partitions; index += THREADS) sync_file_range(files[index], ends[index] - size, size, SYNC_FILE_RANGE_WRITE);
        for (int index = first; index < partitions; index += THREADS) check(fdatasync(files[index]) != 0, "fdatasync");
        pthread_barrier_wait(&barrier);
    }
    return NULL;
}

static double by_files(const char *directory, int starts) {
    for (int index = 0; index < partitions; index++) files[index] = create(directory, "partition", index), ends[index] = 0;
    starts_writeback = starts;
    pthread_t threads[THREADS];
    pthread_barrier_init(&barrier, NULL, THREADS);
    double start = now();
    for (intptr_t index = 0; index < THREADS; index++) pthread_create(&threads[index], NULL, work, (void *)index);
    for (int index = 0; index < THREADS; index++) pthread_join(threads[index], NULL);
    double seconds = now() - start;
    for (int index = 0; index < partitions; index++) close(files[index]);
    return seconds;
}

static double interleaved(const char *directory, int writes_twice) {
    for (int index = 0; index < partitions; index++) files[index] = create(directory, "partition", index), ends[index] = 0;
    int log = create(directory, "log", 0);
    int64_t end = 0;
    double start = now();
    for (int cycle = 0; cycle < cycles; cycle++) {
        append(log, &end, bytes, (int64_t)size * partitions, AHEAD);
        check(fdatasync(log) != 0, "fdatasync");
        if (writes_twice)
            for (int index = 0; index < partitions; index++) append(files[index], &ends[index], bytes, size, AHEAD / partitions + 65536);
    }
    // What is not written back yet has to be, before the log can be cut.
    if (writes_twice)
        for (int index = 0; index < partitions; index++) check(fdatasync(files[index]) != 0, "fdatasync");
    double seconds = now() - start;
    close(log);
    for (int index = 0; index < partitions; index++) close(files[index]);
    return seconds;
}

int main(int count, char **arguments) {
    if (count != 5) return fprintf(stderr, "usage: layout DIRECTORY PARTITIONS BYTES CYCLES\n"), 2;
    partitions = atoi(arguments[2]), size = atoi(arguments[3]), cycles = atoi(arguments[4]);
    files = calloc(partitions, sizeof *files), ends = calloc(partitions, sizeof *ends);
    bytes = malloc((size_t)size * partitions);
    memset(bytes, 'x', (size_t)size * partitions);
    double twice = interleaved(arguments[1], 1), alone = interleaved(arguments[1], 0), plain = by_files(arguments[1], 0), started = by_files(arguments[1], 1);
    printf(
        "{\"partitions\": %d, \"bytes\": %d, \"cycles\": %d, \"interleaved\": %.4f, \"interleaved_alone\": %.4f, \"files\": %.4f, \"files_started\": %.4f}\n",
        partitions, size, cycles, twice * 1e3 / cycles, alone * 1e3 / cycles, plain * 1e3 / cycles, started * 1e3 / cycles);
    return 0;
}
