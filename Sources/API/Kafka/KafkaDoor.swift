// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import EventLog
package import Groups
import KafkaCodec
package import Logging
import MartletCore
import NIOCore
import RequestLimits
import Synchronization
package import Topics
package import Transactions

/// What the Kafka door does with a request: finds who answers it.
package final class KafkaDoor: Sendable {
    /// The one broker there is.
    static let nodeID: Int32 = 0
    /// Its only leader epoch.
    static let leaderEpoch: Int32 = 0
    /// Stands for "not asked for" where a set of permitted operations belongs.
    static let noOperations = Int32.min

    let configuration: KafkaConfiguration
    let log: LocalLog
    let topics: TopicService
    let groups: GroupCoordinator
    let transactions: TransactionCoordinator
    let security: KafkaSecurity
    let logger: Logger
    let memory: RequestMemory
    let answers: AnswerMemory
    private let port = Mutex<Int?>(nil)

    /// Makes a door to the log.
    package init(
        configuration: KafkaConfiguration,
        log: LocalLog,
        topics: TopicService,
        groups: GroupCoordinator,
        transactions: TransactionCoordinator,
        security: KafkaSecurity,
        logger: Logger
    ) {
        self.configuration = configuration
        self.log = log
        self.topics = topics
        self.groups = groups
        self.transactions = transactions
        self.security = security
        self.logger = logger
        memory = RequestMemory(
            bytes: configuration.requestMemoryBytes,
            largest: configuration.requestBytesMax,
            smallest: configuration.otherRequestBytesMax
        )
        answers = AnswerMemory(bytes: configuration.answerMemoryBytes)
    }

    func listens(port: Int) {
        self.port.withLock { $0 = port }
    }

    /// Where a client is told to connect to: where every address is listened on, the one it has reached.
    func advertised(to session: KafkaSession) -> (host: String, port: Int32) {
        let port = configuration.advertisedPort ?? port.withLock { $0 } ?? configuration.port
        let isWildcard = ["0.0.0.0", "::", "[::]"].contains(configuration.host)
        let host = isWildcard ? session.local ?? configuration.host : configuration.host
        return (configuration.advertisedHost ?? host, Int32(port))
    }

    /// Answers a request that appends nothing.
    func answer(_ head: RequestHead, _ frame: ByteBuffer, _ session: KafkaSession) async -> ResponseQueue.Answer {
        guard admits(head, session) else { return .close([]) }
        guard let api = head.header.api, head.header.isSupported else { return unsupported(head, session) }
        do {
            return try await call(api, Call(head: head, frame: frame, session: session))
        } catch let error as KafkaCodecError {
            logger.info(
                "a Kafka connection was closed: its request cannot be read",
                metadata: [
                    "peer": "\(session.peer)", "api": "\(api.name)", "version": "\(head.version)", "error": "\(error)",
                ]
            )
        } catch is CancellationError {
            // The client is gone or the engine stops.
        } catch {
            logger.error(
                "a Kafka request failed",
                metadata: ["peer": "\(session.peer)", "api": "\(api.name)", "error": "\(error)"]
            )
        }
        return .close([])
    }

    private func call(_ api: KafkaAPIKey, _ call: Call) async throws -> ResponseQueue.Answer {
        switch api {
        case .apiVersions: try await call.answer(apiVersions)
        case .saslHandshake: try saslHandshake(call)
        case .saslAuthenticate: try await saslAuthenticate(call)
        case .metadata: try await call.answer(metadata)
        case .describeCluster: try await call.answer(describeCluster)
        case .describeTopicPartitions: try await call.answer(describeTopicPartitions)
        case .fetch: try await fetch(call)
        case .listOffsets: try await call.answer(listOffsets)
        case .offsetForLeaderEpoch: try await call.answer(offsetForLeaderEpoch)
        case .createTopics: try await call.answer(createTopics)
        case .deleteTopics: try await call.answer(deleteTopics)
        case .createPartitions: try await call.answer(createPartitions)
        case .describeConfigs: try await call.answer(describeConfigs)
        case .alterConfigs: try await call.answer(alterConfigs)
        case .incrementalAlterConfigs: try await call.answer(incrementalAlterConfigs)
        case .describeLogDirs: try await call.answer(describeLogDirs)
        case .deleteRecords: try await call.answer(deleteRecords)
        case .describeProducers: try await call.answer(describeProducers)
        case .findCoordinator: try await call.answer(findCoordinator)
        case .joinGroup: try await call.answer(joinGroup)
        case .syncGroup: try await call.answer(syncGroup)
        case .heartbeat: try await call.answer(heartbeat)
        case .leaveGroup: try await call.answer(leaveGroup)
        case .listGroups: try await call.answer(listGroups)
        case .describeGroups: try await call.answer(describeGroups)
        case .deleteGroups: try await call.answer(deleteGroups)
        case .offsetCommit: try await call.answer(offsetCommit)
        case .offsetFetch: try await call.answer(offsetFetch)
        case .offsetDelete: try await call.answer(offsetDelete)
        case .initProducerId: try await call.answer(initProducerID)
        case .addPartitionsToTxn: try await call.answer(addPartitionsToTransaction)
        case .addOffsetsToTxn: try await call.answer(addOffsetsToTransaction)
        case .txnOffsetCommit: try await call.answer(transactionOffsetCommit)
        case .endTxn: try await call.answer(endTransaction)
        case .describeTransactions: try await call.answer(describeTransactions)
        case .listTransactions: try await call.answer(listTransactions)
        case .describeAcls: try await call.answer(describeACLs)
        case .createAcls: try await call.answer(createACLs)
        case .deleteAcls: try await call.answer(deleteACLs)
        case .describeUserScramCredentials: try await call.answer(describeUserScramCredentials)
        case .alterUserScramCredentials: try await call.answer(alterUserScramCredentials)
        default: unsupported(call.head, call.session)
        }
    }

    /// A version of ApiVersions that is too new is told which are served; any other API has no answer the client could read.
    private func unsupported(_ head: RequestHead, _ session: KafkaSession) -> ResponseQueue.Answer {
        if head.header.api == .apiVersions {
            var response = Self.servedVersions()
            response.errorCode = .unsupportedVersion
            if let frame = try? response.frame(correlationID: head.header.correlationID, version: 0) {
                return .parts([.bytes(ByteBuffer(bytes: frame.bytes))])
            }
        }
        logger.info(
            "a Kafka connection was closed: it asked for what is not served",
            metadata: ["peer": "\(session.peer)", "api": "\(head.header.apiKey)", "version": "\(head.version)"]
        )
        return .close([])
    }
}

/// One request at work.
struct Call: Sendable {
    let head: RequestHead
    let frame: ByteBuffer
    let session: KafkaSession

    var version: Int16 { head.version }

    /// Reads the request, has it answered and writes the answer.
    func answer<Request: KafkaRequest>(
        _ handler: (Request, Call) async throws -> Request.Response
    ) async throws -> ResponseQueue.Answer {
        let request = try head.body(frame, as: Request.self)
        return try head.answer(try await handler(request, self))
    }
}
