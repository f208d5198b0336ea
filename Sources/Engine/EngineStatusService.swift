// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import API
import DuckDB
import EventLog
import Foundation
import MartletCore

/// What the engine says about itself.
struct EngineStatusService: EngineServices {
    let parts: EngineParts
    let startedAt: Date
    let progress: StartProgress
    let addresses: ListeningAddresses

    func status() async -> EngineStatus {
        let found = parts.stores.log.damage()
        return EngineStatus(
            version: Engine.version,
            duckdbVersion: parts.stores.library.version,
            startedAt: startedAt,
            dataDirectory: parts.layout.root,
            damage: found.map { EngineStatus.Damage(what: $0.place, path: $0.file, message: $0.reason) },
            grpcAddress: addresses.now.grpc,
            kafkaAddress: addresses.now.kafka,
            functionsObstacle: parts.stores.functionsObstacle.map { obstacle in
                [obstacle.message, obstacle.fix].compactMap(\.self).joined(separator: "; ")
            }
        )
    }

    func obstacles() async -> [String] { progress.obstacles }
}
