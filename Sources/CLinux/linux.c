// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

#define _GNU_SOURCE
#include "CLinux.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <sys/prctl.h>

int martlet_reserve(int descriptor, int64_t position, int64_t count) {
    return fallocate(descriptor, FALLOC_FL_KEEP_SIZE, position, count) == 0 ? 0 : errno;
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
