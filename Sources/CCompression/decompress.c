// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

#include "CCompression.h"

#include "CZlib.h"

#include <lz4frame.h>
#include <snappy-c.h>
#include <stdlib.h>
#include <string.h>
/* For ZSTD_decompressBound, which every libzstd since 1.4 exports. */
#define ZSTD_STATIC_LINKING_ONLY
#include <zstd.h>
#include <zstd_errors.h>

struct martlet_decompressor {
    ZSTD_DCtx *zstd;
    LZ4F_dctx *lz4;
    /* The largest window that a zstd frame has asked for; the context keeps as much memory. */
    size_t zstd_window;
    /* The allocation: front, `capacity` bytes, back. */
    uint8_t *memory;
    size_t capacity;
    size_t count;
    const char *fault;
};

martlet_decompressor *martlet_decompressor_make(void) {
    return calloc(1, sizeof(martlet_decompressor));
}

static void free_zstd(martlet_decompressor *d) {
    ZSTD_freeDCtx(d->zstd);
    d->zstd = NULL;
    d->zstd_window = 0;
}

static void free_lz4(martlet_decompressor *d) {
    LZ4F_freeDecompressionContext(d->lz4);
    d->lz4 = NULL;
}

static void free_memory(martlet_decompressor *d) {
    free(d->memory);
    d->memory = NULL;
    d->capacity = 0;
    d->count = 0;
}

void martlet_decompressor_free(martlet_decompressor *d) {
    if (!d) return;
    free_zstd(d);
    free_lz4(d);
    free_memory(d);
    free(d);
}

void martlet_decompressor_trim(martlet_decompressor *d, size_t most) {
    if (d->zstd_window > most) free_zstd(d);
    if (d->capacity > most) free_memory(d);
}

uint8_t *martlet_decompressed(martlet_decompressor *d, size_t *count) {
    *count = d->count;
    return d->memory + MARTLET_DECOMPRESSED_FRONT;
}

const char *martlet_decompress_fault(const martlet_decompressor *d) {
    return d->fault ? d->fault : "";
}

static int damaged(martlet_decompressor *d, const char *fault) {
    d->fault = fault;
    return MARTLET_DECOMPRESS_DAMAGED;
}

/* Makes room for `wanted` bytes in all; what is there already stays. */
static int reserve(martlet_decompressor *d, size_t wanted) {
    if (d->memory && wanted <= d->capacity) return MARTLET_DECOMPRESSED;
    /* Nothing of an empty buffer is worth copying. */
    if (d->count == 0) free_memory(d);
    uint8_t *larger = realloc(d->memory, MARTLET_DECOMPRESSED_FRONT + wanted + MARTLET_DECOMPRESSED_BACK);
    if (!larger) return MARTLET_DECOMPRESS_NO_MEMORY;
    d->memory = larger;
    d->capacity = wanted;
    return MARTLET_DECOMPRESSED;
}

static int grow(martlet_decompressor *d, size_t limit) {
    /* One byte more than the limit tells what is too large from what just fits. */
    if (d->count > limit) return MARTLET_DECOMPRESS_TOO_LARGE;
    return reserve(d, d->capacity > limit / 2 ? limit + 1 : d->capacity * 2);
}

/* Room for what records usually grow to. */
static int begin(martlet_decompressor *d, size_t count, size_t limit) {
    size_t wanted = count > limit / 4 ? limit + 1 : count * 4;
    return reserve(d, wanted < 65536 ? 65536 : wanted);
}

static uint8_t *end(martlet_decompressor *d) {
    return d->memory + MARTLET_DECOMPRESSED_FRONT + d->count;
}

static int gunzip(martlet_decompressor *d, const uint8_t *input, size_t count, size_t limit) {
    uint8_t *output;
    size_t length;
    switch (martlet_inflate(input, count, limit, &output, &length)) {
    case MARTLET_INFLATED: break;
    case MARTLET_INFLATE_TOO_LARGE: return MARTLET_DECOMPRESS_TOO_LARGE;
    case MARTLET_INFLATE_DAMAGED: return damaged(d, "no whole gzip data");
    default: return MARTLET_DECOMPRESS_NO_MEMORY;
    }
    int code = reserve(d, length);
    if (code == MARTLET_DECOMPRESSED) {
        memcpy(end(d), output, length);
        d->count = length;
    }
    free(output);
    return code;
}

/* The window a frame that is not one single segment asks for; RFC 8878, 3.1.1.1. */
static size_t zstd_window(const uint8_t *frame, size_t count) {
    if (count < 6 || frame[4] & 0x20) return 0;
    int exponent = frame[5] >> 3;
    return exponent > 30 ? SIZE_MAX : (size_t)1024 << exponent;
}

static int unzstd(martlet_decompressor *d, const uint8_t *input, size_t count, size_t limit) {
    if (!d->zstd && !(d->zstd = ZSTD_createDCtx())) return MARTLET_DECOMPRESS_NO_MEMORY;
    ZSTD_DCtx_reset(d->zstd, ZSTD_reset_session_only);
    unsigned long long known = ZSTD_getFrameContentSize(input, count);
    if (known == ZSTD_CONTENTSIZE_ERROR) return damaged(d, "no zstd frame");
    if (known != ZSTD_CONTENTSIZE_UNKNOWN && known > limit) return MARTLET_DECOMPRESS_TOO_LARGE;
    /* Where there is room for all of a frame, it is decompressed in place. */
    int code = known == ZSTD_CONTENTSIZE_UNKNOWN ? begin(d, count, limit) : reserve(d, (size_t)known + 1);
    ZSTD_inBuffer source = {input, count, 0};
    size_t left = 0;
    while (code == MARTLET_DECOMPRESSED) {
        if (left == 0) {
            size_t window = zstd_window(input + source.pos, count - source.pos);
            if (window > d->zstd_window) d->zstd_window = window;
        }
        ZSTD_outBuffer target = {end(d), d->capacity - d->count, 0};
        left = ZSTD_decompressStream(d->zstd, &target, &source);
        if (ZSTD_isError(left)) {
            if (ZSTD_getErrorCode(left) == ZSTD_error_memory_allocation) return MARTLET_DECOMPRESS_NO_MEMORY;
            return damaged(d, ZSTD_getErrorName(left));
        }
        d->count += target.pos;
        if (d->count > limit) return MARTLET_DECOMPRESS_TOO_LARGE;
        if (left == 0 && source.pos == count) return MARTLET_DECOMPRESSED;
        if (target.pos == target.size) {
            code = grow(d, limit);
        } else if (source.pos == count) {
            return damaged(d, "the zstd frame ends early");
        }
    }
    return code;
}

static int unlz4(martlet_decompressor *d, const uint8_t *input, size_t count, size_t limit) {
    if (!d->lz4 && LZ4F_isError(LZ4F_createDecompressionContext(&d->lz4, LZ4F_VERSION))) {
        d->lz4 = NULL;
        return MARTLET_DECOMPRESS_NO_MEMORY;
    }
    int code = begin(d, count, limit);
    size_t position = 0;
    while (code == MARTLET_DECOMPRESSED) {
        size_t taken = count - position;
        size_t room = d->capacity - d->count;
        size_t made = room;
        size_t left = LZ4F_decompress(d->lz4, end(d), &made, input + position, &taken, NULL);
        if (LZ4F_isError(left)) return damaged(d, LZ4F_getErrorName(left));
        position += taken;
        d->count += made;
        if (d->count > limit) return MARTLET_DECOMPRESS_TOO_LARGE;
        if (left == 0 && position == count) return MARTLET_DECOMPRESSED;
        if (made == room) {
            code = grow(d, limit);
        } else if (position == count) {
            return damaged(d, "the LZ4 frame ends early");
        }
    }
    return code;
}

static int unsnap(martlet_decompressor *d, const uint8_t *block, size_t count, size_t limit) {
    size_t length;
    if (snappy_uncompressed_length((const char *)block, count, &length) != SNAPPY_OK) {
        return damaged(d, "no Snappy block");
    }
    if (length > limit - d->count) return MARTLET_DECOMPRESS_TOO_LARGE;
    size_t wanted = d->count + length;
    if (d->count > 0 && wanted > d->capacity && wanted < d->capacity * 2) wanted = d->capacity * 2;
    int code = reserve(d, wanted);
    if (code != MARTLET_DECOMPRESSED) return code;
    size_t made = length;
    if (snappy_uncompress((const char *)block, count, (char *)end(d), &made) != SNAPPY_OK || made != length) {
        return damaged(d, "no whole Snappy block");
    }
    d->count += length;
    return MARTLET_DECOMPRESSED;
}

static uint32_t big_endian(const uint8_t *bytes) {
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

/* A magic number and two versions, then blocks behind their lengths; streams may stand back to back. */
static int unsnap_framed(martlet_decompressor *d, const uint8_t *input, size_t count, size_t limit) {
    static const uint8_t magic[8] = {0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0};
    if (count < 16 || memcmp(input, magic, sizeof magic) != 0) return unsnap(d, input, count, limit);
    size_t position = 0;
    while (position < count) {
        if (count - position >= 16 && memcmp(input + position, magic, sizeof magic) == 0) {
            position += 16;
            continue;
        }
        if (count - position < 4) return damaged(d, "the Snappy stream ends early");
        size_t length = big_endian(input + position);
        position += 4;
        if (length > count - position) return damaged(d, "a Snappy block ends early");
        int code = unsnap(d, input + position, length, limit);
        if (code != MARTLET_DECOMPRESSED) return code;
        position += length;
    }
    return MARTLET_DECOMPRESSED;
}

int martlet_may_exceed(int codec, const uint8_t *input, size_t count, size_t limit) {
    switch (codec) {
    case MARTLET_GZIP: {
        if (count < 4) return 0;
        const uint8_t *size = input + count - 4;
        return ((uint32_t)size[3] << 24 | (uint32_t)size[2] << 16 | (uint32_t)size[1] << 8 | size[0]) > limit;
    }
    /* Neither makes more of a byte. */
    case MARTLET_SNAPPY: return count > limit / 24;
    case MARTLET_LZ4: return count > limit / 255;
    case MARTLET_ZSTD: {
        unsigned long long bound = ZSTD_decompressBound(input, count);
        return bound != ZSTD_CONTENTSIZE_ERROR && bound > limit;
    }
    default: return 0;
    }
}

int martlet_decompress(martlet_decompressor *d, int codec, const uint8_t *input, size_t count, size_t limit) {
    d->count = 0;
    d->fault = NULL;
    if (limit > SIZE_MAX / 4) return MARTLET_DECOMPRESS_TOO_LARGE;
    int code;
    switch (codec) {
    case MARTLET_GZIP: code = gunzip(d, input, count, limit); break;
    case MARTLET_SNAPPY: code = unsnap_framed(d, input, count, limit); break;
    case MARTLET_LZ4: code = unlz4(d, input, count, limit); break;
    case MARTLET_ZSTD: code = unzstd(d, input, count, limit); break;
    default: code = damaged(d, "no codec that is known");
    }
    if (code == MARTLET_DECOMPRESSED) {
        /* An empty xerial stream has reserved nothing. */
        code = reserve(d, d->count);
    }
    if (code != MARTLET_DECOMPRESSED) {
        d->count = 0;
        /* Resetting it is not enough: liblz4 1.9.4 then expects of a frame that does not tell its size what was left of one that did. */
        if (codec == MARTLET_LZ4) free_lz4(d);
        return code;
    }
    memset(end(d), 0, MARTLET_DECOMPRESSED_BACK);
    return code;
}
