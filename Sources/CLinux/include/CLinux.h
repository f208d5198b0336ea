// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

#ifndef MARTLET_CLINUX_H
#define MARTLET_CLINUX_H

#include <stdint.h>

// Linux calls that Swift's Glibc module leaves out because they need _GNU_SOURCE.

/// Reserves disk blocks behind a file's end without changing its size; 0 or an error number.
int martlet_reserve(int descriptor, int64_t position, int64_t count);

/// Names the calling thread; at most 15 bytes are kept.
void martlet_name_thread(const char *name);

#endif
