// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

#define _GNU_SOURCE
#include "CLinux.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

int martlet_reserve(int descriptor, int64_t position, int64_t count) {
    return fallocate(descriptor, 0, position, count) == 0 ? 0 : errno;
}

int64_t martlet_written_end(int descriptor, int64_t position, int64_t size) {
    int64_t end = position;
    while (end < size) {
        const int64_t data = lseek(descriptor, end, SEEK_DATA);
        if (data < 0) return errno == ENXIO ? end : size;
        end = lseek(descriptor, data, SEEK_HOLE);
        if (end < 0) return size;
    }
    return end;
}

void martlet_start_writeback(int descriptor, int64_t position, int64_t count) {
    sync_file_range(descriptor, position, count, SYNC_FILE_RANGE_WRITE);
}

void martlet_name_thread(const char *name) {
    prctl(PR_SET_NAME, name, 0, 0, 0);
}

void martlet_limit_allocator(int arenas, int trim_threshold_bytes, int map_threshold_bytes) {
    mallopt(M_ARENA_MAX, arenas);
    mallopt(M_TRIM_THRESHOLD, trim_threshold_bytes);
    mallopt(M_MMAP_THRESHOLD, map_threshold_bytes);
}

void martlet_trim_allocator(void) {
    malloc_trim(0);
}

int martlet_is_cached(int descriptor, int64_t position, int64_t count) {
    enum { STEP_PAGES = 2048 };
    unsigned char pages[STEP_PAGES];
    const int64_t page = sysconf(_SC_PAGESIZE);
    const int64_t step = page * STEP_PAGES;
    const int64_t end = position + count;
    for (int64_t from = position / page * page; from < end; from += step) {
        const int64_t bytes = end - from < step ? end - from : step;
        void *view = mmap(NULL, bytes, PROT_READ, MAP_SHARED, descriptor, from);
        if (view == MAP_FAILED) return -1;
        const int failed = mincore(view, bytes, pages);
        munmap(view, bytes);
        if (failed != 0) return -1;
        for (int64_t number = 0; number < (bytes + page - 1) / page; number++) {
            if ((pages[number] & 1) == 0) return 0;
        }
    }
    return 1;
}
