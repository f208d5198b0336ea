// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Glibc
import KafkaCodec

extension PartitionRecovery {
    /// What is known of a partition's producers after opening it.
    struct Producers {
        var table = ProducerTable()
        /// Offsets of the sound snapshots, oldest first.
        var snapshots: [Int64] = []
        /// Whether the log had batches of producers that the newest snapshot does not know.
        var isNewer = false
        var damage: [DamageReport] = []
    }

    /// Loads the newest snapshot of producers and reads the batches behind it.
    ///
    /// Without a snapshot where there should be one, every batch is read.
    func recoverProducers(
        among names: [String],
        from logStart: Int64,
        to end: Int64
    ) throws(EventLogError) -> Producers {
        var found = Producers()
        for offset in names.compactMap(ProducerSnapshot.offset(ofFileNamed:)).sorted(by: >) {
            let path = ProducerSnapshot.path(in: directory, at: offset)
            do throws(EventLogError) {
                let snapshot = try ProducerSnapshot(decoding: try Disk.readWhole(path), path: path)
                // One beyond the end was made of records that a power failure took.
                guard snapshot.offset == offset, offset <= end else {
                    try Disk.remove(path)
                    continue
                }
                if found.snapshots.isEmpty { found.table = snapshot.table }
                found.snapshots.insert(offset, at: 0)
            } catch {
                guard error.code == .damaged else { throw error }
                try Disk.rename(path, to: "\(path).damaged-\(logSettings.now())")
                found.damage.append(report(path, error.message))
            }
        }
        var start = found.snapshots.last ?? logStart
        if let checkpoint {
            if checkpoint.producersAt == found.snapshots.last ?? -1 {
                start = min(max(start, checkpoint.producersFrom), end)
            } else if found.snapshots.isEmpty, found.damage.isEmpty {
                found.damage.append(report(directory, "the snapshot of producers is missing"))
            }
        }
        let first = segments[0].baseOffset
        // What ended among records that retention has deleted would stay open. Where it has not ended, its next record opens it again.
        if start < first, found.table.endTransactions(below: first) { found.isNewer = true }
        try replay(from: max(start, first), to: end, into: &found)
        // Compaction goes no further than the first open transaction, so these have ended: an older snapshot may not know, and the
        // marker behind it may be gone.
        if found.table.endTransactions(below: compaction.end) { found.isNewer = true }
        found.table.trim(below: logStart)
        // Their records are gone, and so may be their markers.
        if found.table.forgetAborted(below: compaction.end) { found.isNewer = true }
        return found
    }

    private func report(_ path: String, _ reason: String) -> DamageReport {
        DamageReport(
            topic: id.topic,
            partition: id.partition,
            offsets: 0..<0,
            file: path,
            bytes: 0..<0,
            reason: "\(reason); what it held was read from the records instead"
        )
    }

    private func replay(from start: Int64, to end: Int64, into found: inout Producers) throws(EventLogError) {
        guard start < end else { return }
        let now = logSettings.now()
        for segment in segments where segment.nextOffset > start {
            let paths = SegmentPaths(directory: directory, baseOffset: segment.baseOffset)
            let file: DiskFile
            if let open = segment.file { file = open } else { file = try DiskFile(path: paths.log, flags: O_RDONLY) }
            var place: (position: Int64, offset: Int64) = (0, segment.baseOffset)
            if start > segment.baseOffset, let index = segment.index ?? paths.loadIndex(),
                index.baseOffset == segment.baseOffset, index.coveredBytes <= segment.byteCount
            {
                place = index.start(forOffset: start)
            }
            var scanner = SegmentScanner(
                file: file,
                from: place.position,
                expecting: place.offset,
                end: segment.byteCount
            )
            scan: while true {
                switch try scanner.next() {
                case .batch(let header, let position):
                    guard header.baseOffset >= start, header.producerID >= 0 else { continue }
                    var marker: TransactionMarker?
                    if header.isControl {
                        let bytes = scanner.bytes(of: header, at: position)
                        marker = TransactionMarker(reading: bytes, at: 0, header: header)
                    }
                    found.table.replay(header, marker, at: now, compactedEnd: compaction.end)
                    found.isNewer = true
                case .invalid:
                    guard try scanner.resynchronize() else { break scan }
                case .end: break scan
                }
            }
        }
    }
}
