// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

#ifndef MARTLET_CLINUX_H
#define MARTLET_CLINUX_H

#include <stdint.h>

// Linux calls that Swift's Glibc module leaves out because they need _GNU_SOURCE, and glibc's allocator settings.

/// Makes a file longer by reserved blocks that read as zeros; 0 or an error number.
int martlet_reserve(int descriptor, int64_t position, int64_t count);

/// The end of the last block behind a position that was ever written; at least the position, and the size where the file system cannot tell.
int64_t martlet_written_end(int descriptor, int64_t position, int64_t size);

/// Begins to write a stretch of a file back to its disk, without waiting and without a word on errors: those are fdatasync's to tell.
void martlet_start_writeback(int descriptor, int64_t position, int64_t count);

/// Names the calling thread; at most 15 bytes are kept.
void martlet_name_thread(const char *name);

/// Limits how many heaps the allocator keeps and how much free memory it holds back, and says from what size on memory is asked of the
/// kernel each time; call before threads start.
void martlet_limit_allocator(int arenas, int trim_threshold_bytes, int map_threshold_bytes);

/// Gives free memory back to the system.
void martlet_trim_allocator(void);

/// Whether the page cache has all of a stretch of a file; 1 yes, 0 no, -1 where the system does not say.
int martlet_is_cached(int descriptor, int64_t position, int64_t count);

#endif
