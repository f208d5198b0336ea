// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

#ifndef MARTLET_CCOMPRESSION_H
#define MARTLET_CCOMPRESSION_H

#include <stddef.h>
#include <stdint.h>

/* How Kafka's record batches name their codecs. */
enum {
    MARTLET_GZIP = 1,
    MARTLET_SNAPPY = 2,
    MARTLET_LZ4 = 3,
    MARTLET_ZSTD = 4,
};

enum {
    MARTLET_DECOMPRESSED = 0,
    MARTLET_DECOMPRESS_DAMAGED = 1,
    MARTLET_DECOMPRESS_TOO_LARGE = 2,
    MARTLET_DECOMPRESS_NO_MEMORY = 3,
};

/* Bytes that belong to the buffer in front of and behind what was decompressed; those behind are zero. */
enum {
    MARTLET_DECOMPRESSED_FRONT = 64,
    MARTLET_DECOMPRESSED_BACK = 32,
};

/* The memory of the decoders and a buffer, used again and again by one thread at a time. */
typedef struct martlet_decompressor martlet_decompressor;

/* Returns NULL where there is no memory. */
martlet_decompressor *martlet_decompressor_make(void);
void martlet_decompressor_free(martlet_decompressor *decompressor);

/* Decompresses all of the input: gzip members, zstd frames or LZ4 frames back to back, one raw block of Snappy, or Snappy as
   xerial's Java library frames it. What is left over behind them is damage, as is an end that comes early. */
int martlet_decompress(martlet_decompressor *decompressor, int codec, const uint8_t *input, size_t count, size_t limit);

/* Whether the input may become more than `limit` bytes, judged by what its format says and without decompressing it. What says too little of
   itself, such as all but the last of several gzip members, is not found out. */
int martlet_may_exceed(int codec, const uint8_t *input, size_t count, size_t limit);

/* What the last call decompressed; valid until the next one. */
uint8_t *martlet_decompressed(martlet_decompressor *decompressor, size_t *count);
/* What was wrong after MARTLET_DECOMPRESS_DAMAGED, a string that stays. */
const char *martlet_decompress_fault(const martlet_decompressor *decompressor);
/* Gives back memory where there is more than `most` bytes of it. */
void martlet_decompressor_trim(martlet_decompressor *decompressor, size_t most);

/* Compresses all of the input so that martlet_decompress takes it back: one gzip member, one zstd or LZ4 frame, one raw block of Snappy.
   Returns 1 and `*length` bytes of malloc'ed memory that the caller frees, or 0 where there is no memory or the codec is unknown. */
int martlet_compress(int codec, const uint8_t *input, size_t count, uint8_t **output, size_t *length);

#endif
