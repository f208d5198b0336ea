// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

#ifndef MARTLET_CZLIB_H
#define MARTLET_CZLIB_H

#include <stddef.h>
#include <stdint.h>

/* zlib's inflateInit2 is a macro, which Swift does not see. */

enum {
    MARTLET_INFLATED = 0,
    MARTLET_INFLATE_DAMAGED = 1,
    MARTLET_INFLATE_TOO_LARGE = 2,
    MARTLET_INFLATE_NO_MEMORY = 3,
};

/* Inflates gzip (members back to back too) or zlib data of at most `limit` bytes inflated. On MARTLET_INFLATED `*output` is malloc'ed
   memory of `*length` bytes that the caller frees; otherwise it is NULL. */
int martlet_inflate(const uint8_t *input, size_t count, size_t limit, uint8_t **output, size_t *length);

#endif
