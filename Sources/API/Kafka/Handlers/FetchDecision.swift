// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// What an answer to a fetch may still hold, and whether it is sent or waits for more; without I/O and without a clock.
///
/// A fetch begins a reading, asks for each partition what may be read of it, tells what was found, and asks at the end what
/// to do. Waiting, it begins another reading when there are more records.
package struct FetchDecision: Equatable, Sendable {
    /// What is to be done after a reading.
    package enum Step: Equatable, Sendable {
        /// Send what was found.
        case answer
        /// Wait for more, at most so long.
        case wait(Duration)
    }

    /// How much of a partition may be read; its first batch may be larger.
    package struct Share: Equatable, Sendable {
        /// Bytes of batches.
        package let bytes: Int
        /// Bytes of them that may be in memory.
        package let memoryBytes: Int

        package init(bytes: Int, memoryBytes: Int) {
            self.bytes = bytes
            self.memoryBytes = memoryBytes
        }
    }

    /// The longest a fetch may wait.
    package static let waitMax = Duration.seconds(300)
    /// The most stretches of files in an answer, each of which keeps its file open.
    package static let fileCountMax = 256

    /// Bytes of batches in the answer.
    package private(set) var byteCount = 0
    /// Those of them that are in memory.
    package private(set) var memoryBytes = 0
    private let bytesMax: Int
    private let bytesMin: Int
    private let waitMax: Duration
    private var memoryBytesMax = 0
    private var fileCount = 0
    /// Whether there are partitions to read at all.
    private var hasPartitions = false
    private var hasError = false
    /// Whether there are records that the limits left out.
    private var hasMore = false

    /// Begins with what a client asks for; `bytesMax` is what the engine gives it at most.
    package init(bytesMax: Int, bytesMin: Int32, waitMilliseconds: Int32) {
        self.bytesMax = bytesMax
        self.bytesMin = Int(max(0, bytesMin))
        waitMax = min(.milliseconds(max(0, waitMilliseconds)), Self.waitMax)
    }

    /// The most bytes of batches that a reading may want in memory.
    package func memoryWanted(upTo most: Int) -> Int { min(most, bytesMax) }

    /// There is a partition to read.
    package mutating func addPartition() { hasPartitions = true }

    /// A partition was refused, or reading it failed: the answer says so at once.
    package mutating func fail() { hasError = true }

    /// Begins a reading of every partition, with so much memory.
    package mutating func begin(memoryBytesMax: Int) {
        self.memoryBytesMax = memoryBytesMax
        byteCount = 0
        memoryBytes = 0
        fileCount = 0
        hasMore = false
    }

    /// What may be read of the next partition, of which the client takes so many bytes; nil where only its bounds are wanted.
    ///
    /// The answer's first batch is given whatever its size. `lendsFiles` is whether another file may be kept open.
    package func share(of partitionBytesMax: Int, lendsFiles: @autoclosure () -> Bool) -> Share? {
        let room = min(partitionBytesMax, bytesMax - byteCount)
        guard byteCount == 0 || (room > 0 && fileCount < Self.fileCountMax && lendsFiles()) else { return nil }
        return Share(bytes: room, memoryBytes: memoryBytesMax - memoryBytes)
    }

    /// So many bytes of batches were found, up to `next` of the `readable` end; returns whether they go into the answer.
    ///
    /// Batches that are larger than what is left wait for the next answer, unless they are the first.
    package mutating func take(byteCount found: Int, isFile: Bool, next: Int64, readable: Int64) -> Bool {
        hasMore = hasMore || next < readable
        guard found > 0 else { return false }
        guard byteCount == 0 || byteCount + found <= bytesMax else {
            hasMore = true
            return false
        }
        byteCount += found
        if isFile { fileCount += 1 } else { memoryBytes += found }
        return true
    }

    /// There was no room for records of a partition that is read from `offset` on, up to the `readable` end.
    package mutating func pass(offset: Int64, readable: Int64) { hasMore = hasMore || offset < readable }

    /// What to do after a reading, so long after the request came; where the limits keep records back, waiting brings none.
    package func next(after elapsed: @autoclosure () -> Duration) -> Step {
        if hasError || hasMore || byteCount >= bytesMin || !hasPartitions { return .answer }
        let left = waitMax - elapsed()
        return left > .zero ? .wait(left) : .answer
    }
}
