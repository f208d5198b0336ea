// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import API
import Catalog
import DuckDB
import EventLog
import Foundation
import Lake
import MartletCore

/// What the engine says about itself.
struct EngineStatusService: EngineServices {
    let parts: EngineParts
    let startedAt: Date
    let progress: StartProgress
    let addresses: ListeningAddresses

    func status() async -> EngineStatus {
        let stores = parts.stores
        var damage = stores.log.damage().map { EngineStatus.Damage(what: $0.place, path: $0.file, message: $0.reason) }
        damage += (stores.catalog.troubles() + stores.inventory.troubles()).map {
            EngineStatus.Damage(what: "the catalog", path: $0.path, message: "\($0.message); \($0.fix)")
        }
        if let fault = stores.lake.openingFault {
            damage.append(
                EngineStatus.Damage(
                    what: "the database of tables",
                    path: parts.layout.tables + "/tables.duckdb",
                    message: "\(fault)"
                )
            )
        }
        damage += FreeSpace.full(parts.layout).map {
            EngineStatus.Damage(what: "a full disk", path: $0, message: "there is no room left; make some")
        }
        return EngineStatus(
            version: Engine.version,
            duckdbVersion: parts.stores.library.version,
            startedAt: startedAt,
            dataDirectory: parts.layout.root,
            damage: damage,
            grpcAddress: addresses.now.grpc,
            kafkaAddress: addresses.now.kafka,
            functionsObstacle: parts.stores.functionsObstacle.map { obstacle in
                [obstacle.message, obstacle.fix].compactMap(\.self).joined(separator: "; ")
            }
        )
    }

    func obstacles() async -> [String] { progress.obstacles }
}
