// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

#include "CCompression.h"

#include <limits.h>
#include <lz4frame.h>
#include <snappy-c.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

static size_t bound(int codec, size_t count) {
    switch (codec) {
    /* The gzip wrapper is larger than what zlib's own bound counts. */
    case MARTLET_GZIP: return count > UINT_MAX / 2 ? 0 : compressBound((uLong)count) + 32;
    case MARTLET_SNAPPY: return snappy_max_compressed_length(count);
    case MARTLET_LZ4: return LZ4F_compressFrameBound(count, NULL);
    case MARTLET_ZSTD: return ZSTD_compressBound(count);
    default: return 0;
    }
}

static size_t gzip(const uint8_t *input, size_t count, uint8_t *output, size_t room) {
    z_stream stream = {0};
    /* A window of 32 KiB, in a gzip wrapper. */
    if (deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK) return 0;
    stream.next_in = (Bytef *)input;
    stream.avail_in = (uInt)count;
    stream.next_out = output;
    stream.avail_out = (uInt)room;
    int code = deflate(&stream, Z_FINISH);
    size_t length = room - stream.avail_out;
    deflateEnd(&stream);
    return code == Z_STREAM_END ? length : 0;
}

int martlet_compress(int codec, const uint8_t *input, size_t count, uint8_t **output, size_t *length) {
    size_t room = bound(codec, count);
    *output = NULL;
    *length = 0;
    if (room == 0 || room > UINT_MAX) return 0;
    uint8_t *memory = malloc(room);
    if (!memory) return 0;
    size_t made = 0;
    size_t code;
    switch (codec) {
    case MARTLET_GZIP: made = gzip(input, count, memory, room); break;
    case MARTLET_SNAPPY:
        made = room;
        if (snappy_compress((const char *)input, count, (char *)memory, &made) != SNAPPY_OK) made = 0;
        break;
    case MARTLET_LZ4:
        code = LZ4F_compressFrame(memory, room, input, count, NULL);
        made = LZ4F_isError(code) ? 0 : code;
        break;
    case MARTLET_ZSTD:
        code = ZSTD_compress(memory, room, input, count, 3);
        made = ZSTD_isError(code) ? 0 : code;
        break;
    }
    if (made == 0) {
        free(memory);
        return 0;
    }
    *output = memory;
    *length = made;
    return 1;
}
