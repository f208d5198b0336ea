// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

#ifndef MARTLET_CCHECKSUM_H
#define MARTLET_CCHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/// Extends a CRC-32C (Castagnoli, reflected polynomial 0x82F63B78) over `length` more bytes.
/// Start with 0. Uses the processor's CRC instruction where there is one, otherwise eight lookup tables.
uint32_t martlet_crc32c(uint32_t crc, const void *data, size_t length);

/// The table-driven form of martlet_crc32c, exported so that tests can compare the two.
uint32_t martlet_crc32c_portable(uint32_t crc, const void *data, size_t length);

#endif
