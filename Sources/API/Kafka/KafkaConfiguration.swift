// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Where the Kafka door listens, what it tells clients of itself and how much it takes.
package struct KafkaConfiguration: Sendable {
    /// Name or address to listen on.
    package var host = "127.0.0.1"
    /// Port to listen on; 0 takes a free one.
    package var port = 9092
    /// Host that clients are told to connect to; nil is ``host``.
    package var advertisedHost: String?
    /// Port that clients are told to connect to; nil is the port listened on.
    package var advertisedPort: Int?
    /// Largest request that appends records, in bytes.
    package var requestBytesMax = 100 << 20
    /// Largest of all other requests, in bytes.
    package var otherRequestBytesMax = 16 << 20
    /// Most bytes of large requests held at once, over all connections; never less than one of the largest needs.
    package var requestMemoryBytes = 512 << 20
    /// Bytes of requests of one connection at work at once from which on nothing more is read from it.
    package var connectionRequestBytes = 64 << 20
    /// The same for requests of up to 64 KiB, which are not counted among the large ones.
    package var connectionSmallRequestBytes = 256 << 10
    /// Requests with more bytes than this are checked by another thread than the one that serves connections.
    package var requestBytesInline = 1 << 20
    /// Most bytes of answers in memory that clients have yet to take, over all connections; further requests wait.
    package var answerMemoryBytes = 256 << 20
    /// Most bytes of records in one answer that come from memory; further ones are sent from their files.
    package var answerRecordBytesMax = 8 << 20
    /// Most bytes of records in one answer, whatever the client asks for; a first batch may be larger.
    package var fetchBytesMax = 55 << 20
    /// Most connections open at once; for a further one that gives way which has had no request for the longest.
    package var connectionsMax = 2048
    /// Requests of one connection at work at once; only those that append run beside each other.
    package var requestsPerConnectionMax = 64
    /// Seconds a connection may rest between requests.
    package var idleSeconds = 600
    /// Seconds a client may leave a request unfinished, or an answer unread, without any progress.
    package var stallSeconds = 30
    /// The same where others wait for the memory it holds.
    package var contendedStallSeconds = 5
    /// Lowest rate at which a request must arrive, in bytes a second.
    package var requestBytesPerSecondMin = 256 << 10
    /// Lowest rate at which answers must be taken, in bytes a second.
    package var answerBytesPerSecondMin = 64 << 10
    /// Partitions of a topic made because a client named it; also of one created without a number.
    package var partitionsDefault: Int32 = 1
    /// Whether topics are made when a client names one that does not exist.
    package var createsTopics = true
    /// The id of the cluster, the same after every start of an installation and another one in each.
    package var clusterID: String

    package init(clusterID: String) { self.clusterID = clusterID }
}
