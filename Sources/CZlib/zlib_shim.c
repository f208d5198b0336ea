// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

#include "CZlib.h"

#include <limits.h>
#include <stdlib.h>
#include <zlib.h>

/* Window of 32 KiB; the format is told by the first bytes. */
#define WINDOW_BITS (15 + 32)

static int inflate_all(z_stream *stream, size_t count, size_t limit, uint8_t **buffer, size_t *length) {
    size_t capacity = count > limit / 4 ? limit : count * 4;
    if (capacity < 4096) capacity = limit < 4096 ? limit : 4096;
    /* One byte more than the limit tells what is too large from what just fits. */
    if (!(*buffer = malloc(capacity + 1))) return MARTLET_INFLATE_NO_MEMORY;
    for (;;) {
        size_t room = capacity + 1 - *length;
        stream->next_out = *buffer + *length;
        stream->avail_out = room > UINT_MAX ? UINT_MAX : (uInt)room;
        uInt offered = stream->avail_out;
        int code = inflate(stream, Z_NO_FLUSH);
        *length += offered - stream->avail_out;
        if (*length > limit) return MARTLET_INFLATE_TOO_LARGE;
        if (code == Z_STREAM_END) {
            if (stream->avail_in == 0) return MARTLET_INFLATED;
            if (inflateReset(stream) != Z_OK) return MARTLET_INFLATE_DAMAGED;
        } else if (code == Z_MEM_ERROR) {
            return MARTLET_INFLATE_NO_MEMORY;
        } else if (code != Z_OK && code != Z_BUF_ERROR) {
            return MARTLET_INFLATE_DAMAGED;
        } else if (stream->avail_out > 0) {
            /* Room is left and there is nothing more to read: the data end early. */
            return MARTLET_INFLATE_DAMAGED;
        }
        if (*length == capacity + 1) {
            size_t grown = capacity > limit / 2 ? limit : capacity * 2;
            uint8_t *larger = realloc(*buffer, grown + 1);
            if (!larger) return MARTLET_INFLATE_NO_MEMORY;
            *buffer = larger;
            capacity = grown;
        }
    }
}

int martlet_inflate(const uint8_t *input, size_t count, size_t limit, uint8_t **output, size_t *length) {
    *output = NULL;
    *length = 0;
    if (count > UINT_MAX || limit > SIZE_MAX / 4) return MARTLET_INFLATE_TOO_LARGE;
    z_stream stream = {.next_in = (Bytef *)input, .avail_in = (uInt)count};
    if (inflateInit2(&stream, WINDOW_BITS) != Z_OK) return MARTLET_INFLATE_NO_MEMORY;
    int code = inflate_all(&stream, count, limit, output, length);
    inflateEnd(&stream);
    if (code != MARTLET_INFLATED) {
        free(*output);
        *output = NULL;
        *length = 0;
    }
    return code;
}
