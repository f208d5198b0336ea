// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import Broker
package import EventLog
package import GRPCCore
package import MartletCore
package import Topics

/// The services of `martlet.v1`, with reflection and health for them and the others.
package enum BrokerServices {
    /// All of them; `explain` turns errors of the engine's modules into what callers are told.
    package static func all(
        log: LocalLog,
        topics: TopicService,
        groups: any GroupServices,
        subscriptions: SubscriptionHub,
        isReady: @escaping @Sendable () async -> Bool,
        explain: @escaping @Sendable (any Error) -> ServiceError
    ) -> [any RegistrableRPCService] {
        let names = [
            "grpc.health.v1.Health", "martlet.v1.Groups", "martlet.v1.Publisher", "martlet.v1.Subscriber",
            "martlet.v1.Topics", "opentelemetry.proto.collector.logs.v1.LogsService",
            "opentelemetry.proto.collector.metrics.v1.MetricsService",
            "opentelemetry.proto.collector.trace.v1.TraceService",
        ]
        return [
            PublisherService(publisher: BatchPublisher(log: log, explain: explain)),
            SubscriberService(
                hub: subscriptions,
                reader: TopicReader(log: log, memory: subscriptions.memory),
                explain: explain
            ),
            TopicsService(topics: topics, explain: explain),
            GroupsService(groups: groups, explain: explain),
            ReflectionService(services: names),
            HealthService(services: names, isReady: isReady),
        ]
    }
}
