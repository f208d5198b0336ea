// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Glibc
import KafkaCodec
import Synchronization

/// A record's place in time.
struct TimedOffset: Sendable {
    let offset: Int64
    let timestamp: Int64
}

extension PartitionLog {
    /// Returns the first record with this timestamp or a later one, reading from the place the time index gives;
    /// blocks.
    ///
    /// Damaged batches are stepped over.
    func firstRecord(atOrAfter timestamp: Int64) throws(EventLogError) -> TimedOffset? {
        var from = Int64.min
        while true {
            let (segments, logStart, status) = state.withLock { ($0.segments, $0.logStartOffset, $0.status) }
            if case .gone(let error) = status { throw error }
            let next = segments.first {
                $0.maxTimestamp >= timestamp && $0.nextOffset > max(logStart, from)
            }
            guard let segment = next else { return nil }
            do throws(EventLogError) {
                switch try firstRecord(in: segment, atOrAfter: timestamp, from: logStart) {
                case .found(let found): return found
                case .none: from = segment.nextOffset
                // Compaction has put another file in its place.
                case .replaced: break
                }
            } catch  where error.systemError == ENOENT && isDeleted(segment.baseOffset) {
                from = segment.nextOffset
            }
        }
    }

    private enum TimeSearch {
        case found(TimedOffset)
        case none
        case replaced
    }

    private func firstRecord(
        in segment: Segment,
        atOrAfter timestamp: Int64,
        from logStart: Int64
    ) throws(EventLogError) -> TimeSearch {
        let file: DiskFile
        let index: SegmentIndex
        if let openFile = segment.file, let openIndex = segment.index {
            (file, index) = (openFile, openIndex)
        } else if let known = segment.index {
            let opened = try open(segmentAt: segment.baseOffset, generation: segment.generation, writable: true)
            guard let opened else { return .replaced }
            (file, index) = (keep(opened, segment.baseOffset), known)
        } else {
            let loaded = try load(
                segmentAt: segment.baseOffset,
                generation: segment.generation,
                byteCount: segment.byteCount,
                nextOffset: segment.nextOffset
            )
            guard let loaded else { return .replaced }
            (file, index) = loaded
        }
        let start = index.start(forTimestamp: timestamp)
        var scanner = SegmentScanner(
            file: file,
            from: start.position,
            expecting: start.offset,
            end: segment.byteCount
        )
        while true {
            switch try scanner.next() {
            case .batch(let header, let position):
                guard header.maxTimestamp >= timestamp, header.nextOffset > logStart, !header.isControl else {
                    continue
                }
                let bytes = scanner.bytes(of: header, at: position)
                if let found = Self.record(in: bytes, header, atOrAfter: timestamp, from: logStart) {
                    return .found(found)
                }
            case .invalid:
                guard try scanner.resynchronize() else { return .none }
            case .end: return .none
            }
        }
    }

    private static func record(
        in bytes: [UInt8],
        _ header: RecordBatchHeader,
        atOrAfter timestamp: Int64,
        from logStart: Int64
    ) -> TimedOffset? {
        var walk = RecordBatches(bytes, verifiesChecksums: false)
        do throws(RecordBatchError) {
            while let record = try walk.nextRecord() {
                if record.timestamp >= timestamp, record.offset >= logStart {
                    return TimedOffset(offset: record.offset, timestamp: record.timestamp)
                }
            }
            return nil
        } catch {
            // The scanner has checked the bytes, so they are as they were sent. Who reads them may know more than we do.
            return TimedOffset(offset: max(header.baseOffset, logStart), timestamp: header.maxTimestamp)
        }
    }
}

extension PartitionLog {
    /// Returns the record with the highest timestamp, the first of several; blocks.
    func latestRecord() throws(EventLogError) -> TimedOffset? {
        let newest = state.withLock { state in
            state.segments.filter { $0.nextOffset > state.logStartOffset }.map(\.maxTimestamp).max()
        }
        guard let newest, newest >= 0 else { return nil }
        return try firstRecord(atOrAfter: newest)
    }
}
