// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import KafkaCodec

extension RecordView {
    /// The bytes it counts for while it is delivered: what it holds, and a share for each header and for itself.
    var deliveryByteCount: Int { contentByteCount + 64 * headerCount + 64 }
}
