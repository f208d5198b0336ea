// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

internal import KafkaCodec
internal import MartletCore
internal import Synchronization

/// Decompresses the batches of one fetch, within the memory of the sinks, and keeps the one that was taken in part.
package final class Decompression: Sendable {
    private struct Kept: Sendable {
        let baseOffset: Int64
        let plain: PlainBatch
        let charge: SinkMemory.Charge?
    }

    /// What producers bound batches to before they compress them; more is tried when it turns out to be more.
    private static let usualBytes = 1 << 20

    private let account: SinkMemory.Account?
    private let kept = Mutex<Kept?>(nil)

    /// Makes one with nothing kept; without an account nothing is accounted.
    package init(_ account: SinkMemory.Account? = nil) {
        self.account = account
    }

    /// Calls `body` with a batch of `bytes`; the offset it returns, where it stopped early, is returned.
    ///
    /// Blocks while another thread has decompressed more than there is memory for beside it.
    func withPlain(
        _ batch: RecordBatch,
        in bytes: [UInt8],
        _ body: (PlainBatch) -> Int64?
    ) throws(RecordBatchError) -> Int64? {
        let base = batch.header.baseOffset
        if let found = kept.withLock({ $0 }), found.baseOffset == base {
            let stop = withExtendedLifetime(found) { body(found.plain) }
            if stop == nil { forget() }
            return stop
        }
        forget()
        let most = RecordBatch.decompressedBytesMax(of: batch.range.count)
        var bytesMax = min(most, max(Self.usualBytes, batch.range.count * 8))
        while true {
            let reserved = bytesMax
            account?.memory.begin(.decompression, reserved)
            defer { account?.memory.end(.decompression, reserved) }
            do throws(RecordBatchError) {
                let plain = try batch.plain(in: bytes, bytesMax: bytesMax)
                let stop = withExtendedLifetime(plain) { body(plain) }
                if stop != nil { keep(plain, base) }
                return stop
            } catch {
                guard error.code == .decompressedTooLarge, bytesMax < most else { throw error }
            }
            bytesMax = most
        }
    }

    /// Keeps a batch for the next call, where there is memory for it.
    private func keep(_ plain: PlainBatch, _ base: Int64) {
        let charge = account.map { $0.memory.charge($0) }
        if let charge, !charge.grow(to: plain.byteCount) { return }
        kept.withLock { $0 = Kept(baseOffset: base, plain: plain, charge: charge) }
    }

    private func forget() {
        // What goes gives its memory back, and that outside the lock.
        _ = kept.withLock { kept in
            defer { kept = nil }
            return kept
        }
    }
}
