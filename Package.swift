// swift-tools-version: 6.3
// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import PackageDescription

let arguments = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")
let collections = Target.Dependency.product(name: "DequeModule", package: "swift-collections")
let heap = Target.Dependency.product(name: "HeapModule", package: "swift-collections")
let configuration = Target.Dependency.product(name: "Configuration", package: "swift-configuration")
let crypto = Target.Dependency.product(name: "Crypto", package: "swift-crypto")
let sqlite = Target.Dependency.product(name: "GRDB", package: "GRDB.swift")
let httpClient = Target.Dependency.product(name: "AsyncHTTPClient", package: "async-http-client")
let hummingbird = Target.Dependency.product(name: "Hummingbird", package: "hummingbird")
let hummingbirdCore = Target.Dependency.product(name: "HummingbirdCore", package: "hummingbird")
let jwt = Target.Dependency.product(name: "JWTKit", package: "jwt-kit")
let cryptoExtras = Target.Dependency.product(name: "CryptoExtras", package: "swift-crypto")
let asn1 = Target.Dependency.product(name: "SwiftASN1", package: "swift-asn1")
let x509 = Target.Dependency.product(name: "X509", package: "swift-certificates")
let httpTypes = Target.Dependency.product(name: "HTTPTypes", package: "swift-http-types")
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let nioCore = Target.Dependency.product(name: "NIOCore", package: "swift-nio")
let nioEmbedded = Target.Dependency.product(name: "NIOEmbedded", package: "swift-nio")
let nioHTTP1 = Target.Dependency.product(name: "NIOHTTP1", package: "swift-nio")
let nioPosix = Target.Dependency.product(name: "NIOPosix", package: "swift-nio")
let lifecycle = Target.Dependency.product(name: "ServiceLifecycle", package: "swift-service-lifecycle")
let subprocess = Target.Dependency.product(name: "Subprocess", package: "swift-subprocess")
let system = Target.Dependency.product(name: "SystemPackage", package: "swift-system")
let signals = Target.Dependency.product(name: "UnixSignals", package: "swift-service-lifecycle")
let nioHTTP2 = Target.Dependency.product(name: "NIOHTTP2", package: "swift-nio-http2")
let nioHPACK = Target.Dependency.product(name: "NIOHPACK", package: "swift-nio-http2")
let nioSSL = Target.Dependency.product(name: "NIOSSL", package: "swift-nio-ssl")
let nioTLS = Target.Dependency.product(name: "NIOTLS", package: "swift-nio")
let protobuf = Target.Dependency.product(name: "SwiftProtobuf", package: "swift-protobuf")
let grpc = Target.Dependency.product(name: "GRPCCore", package: "grpc-swift-2")
let grpcProtobuf = Target.Dependency.product(name: "GRPCProtobuf", package: "grpc-swift-protobuf")
let grpcTransport = Target.Dependency.product(name: "GRPCNIOTransportHTTP2Posix", package: "grpc-swift-nio-transport")
let yaml = Target.Dependency.product(name: "Yams", package: "Yams")

let package = Package(
    name: "Martlet",
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", exact: "1.8.2"),
        .package(url: "https://github.com/apple/swift-asn1", exact: "1.7.4"),
        .package(url: "https://github.com/apple/swift-certificates", exact: "1.21.1"),
        .package(url: "https://github.com/apple/swift-collections", exact: "1.6.0"),
        .package(url: "https://github.com/apple/swift-configuration", exact: "1.4.0", traits: [.defaults, "YAML"]),
        .package(url: "https://github.com/apple/swift-crypto", exact: "4.5.2"),
        .package(url: "https://github.com/apple/swift-http-types", exact: "1.8.0"),
        .package(url: "https://github.com/apple/swift-log", exact: "1.16.2"),
        .package(url: "https://github.com/apple/swift-nio", exact: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-http2", exact: "1.46.0"),
        .package(url: "https://github.com/apple/swift-nio-ssl", exact: "2.37.6"),
        .package(url: "https://github.com/apple/swift-system", exact: "1.8.1"),
        .package(url: "https://github.com/apple/swift-protobuf", exact: "1.39.0"),
        .package(url: "https://github.com/groue/GRDB.swift", exact: "7.10.0"),
        .package(url: "https://github.com/grpc/grpc-swift-2", exact: "2.4.3"),
        .package(url: "https://github.com/grpc/grpc-swift-nio-transport", exact: "2.9.2"),
        .package(url: "https://github.com/grpc/grpc-swift-protobuf", exact: "2.4.1"),
        .package(url: "https://github.com/hummingbird-project/hummingbird", exact: "2.28.1"),
        .package(url: "https://github.com/jpsim/Yams", exact: "6.2.2"),
        .package(url: "https://github.com/swift-server/async-http-client", exact: "1.37.0"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", exact: "2.13.0"),
        .package(url: "https://github.com/swiftlang/swift-subprocess", exact: "1.0.2"),
        .package(url: "https://github.com/vapor/jwt-kit", exact: "5.7.1"),
    ],
    targets: [
        .target(name: "CChecksum"),
        .target(
            name: "CCompression",
            dependencies: ["CZlib"],
            // Debian installs the shared library of Snappy with nothing else, so the program carries it; the others are everywhere.
            linkerSettings: [
                .linkedLibrary("zstd"), .linkedLibrary("lz4"), .linkedLibrary(":libsnappy.a"), .linkedLibrary("stdc++"),
            ]
        ),
        .target(name: "CDuckDB"),
        .target(name: "CInotify"),
        .target(name: "CLinux"),
        .target(name: "CZlib", linkerSettings: [.linkedLibrary("z")]),
        .target(name: "MartletCore"),
        .target(name: "Documents", dependencies: ["MartletCore", yaml]),
        .target(name: "KafkaCodec", dependencies: ["CChecksum", "CCompression"]),
        .target(name: "EventLog", dependencies: ["CLinux", "KafkaCodec", "MartletCore", collections, heap, logging]),
        .target(name: "Transactions", dependencies: ["EventLog", "KafkaCodec", logging]),
        .target(name: "Groups", dependencies: ["EventLog", "KafkaCodec", "MartletCore", heap, logging]),
        .target(name: "Catalog", dependencies: ["Documents", "MartletCore", crypto, sqlite]),
        .target(
            name: "Identity",
            dependencies: [
                "Catalog", "MartletCore", crypto, cryptoExtras, httpClient, jwt, logging, nioCore, nioHTTP1,
                nioPosix, nioSSL, asn1, x509,
            ]
        ),
        .target(name: "ArrowIPC"),
        .target(name: "DuckDB", dependencies: ["ArrowIPC", "CDuckDB", "MartletCore"]),
        .target(name: "Lake", dependencies: ["ArrowIPC", "DuckDB", "MartletCore", logging, lifecycle]),
        .target(
            name: "Tables",
            dependencies: [
                "Catalog", "Documents", "DuckDB", "EventLog", "KafkaCodec", "Lake", "MartletCore", collections, logging,
            ]
        ),
        .target(
            name: "Telemetry",
            dependencies: ["DuckDB", "EventLog", "KafkaCodec", "Lake", "MartletCore", "Tables", logging]
        ),
        .target(name: "OTLP", dependencies: ["CZlib", "MartletCore", grpc, grpcProtobuf, protobuf]),
        .target(
            name: "TelemetryExport",
            dependencies: [
                "MartletCore", "OTLP", collections, grpc, grpcTransport, httpClient, logging, nioCore, nioHTTP1,
                nioSSL, protobuf,
            ]
        ),
        .target(
            name: "Broker",
            dependencies: ["EventLog", "Groups", "KafkaCodec", "MartletCore", collections, heap, logging]
        ),
        .target(name: "MartletProto", dependencies: [grpc, grpcProtobuf, protobuf]),
        .target(name: "Topics", dependencies: ["Catalog", "Documents", "EventLog", "KafkaCodec", "MartletCore"]),
        .target(name: "Views", dependencies: ["CInotify", "MartletCore", logging]),
        .target(
            name: "Triggers",
            dependencies: ["Catalog", "Documents", "EventLog", "KafkaCodec", "MartletCore", "Views", logging]
        ),
        .target(
            name: "Workers",
            dependencies: ["MartletCore", logging, nioCore, nioHTTP1, nioPosix, subprocess, system]
        ),
        .target(name: "Functions", dependencies: ["Catalog", "Documents", "MartletCore", crypto, subprocess, system]),
        .target(
            name: "Pipelines",
            dependencies: [
                "Catalog", "Documents", "EventLog", "KafkaCodec", "MartletCore", "Workers", collections, heap, logging,
                nioCore,
            ]
        ),
        .target(
            name: "API",
            dependencies: [
                "MartletCore", hummingbird, hummingbirdCore, httpTypes, logging, nioCore, nioHTTP1, nioPosix, lifecycle,
            ],
            path: "Sources/API/REST"
        ),
        .target(
            name: "WorkerGateway",
            dependencies: ["MartletCore", "Workers", hummingbird, httpTypes, logging, nioCore, lifecycle],
            path: "Sources/API/Gateway"
        ),
        .target(name: "RequestLimits", dependencies: [nioCore, collections], path: "Sources/API/Limits"),
        .target(
            name: "GRPCAPI",
            dependencies: [
                "MartletCore", "OTLP", grpc, grpcProtobuf, grpcTransport, logging, nioCore, nioHPACK, nioHTTP2,
                nioPosix,
                lifecycle,
                protobuf, "RequestLimits",
                "Broker", "EventLog", "Groups", "KafkaCodec", "MartletProto", "Topics", collections,
            ],
            path: "Sources/API/GRPC"
        ),
        .target(
            name: "KafkaAPI",
            dependencies: [
                "EventLog", "Groups", "Identity", "KafkaCodec", "MartletCore", "RequestLimits", "Topics",
                "Transactions",
                collections, logging,
                nioCore,
                nioPosix, nioSSL, nioTLS, lifecycle,
            ],
            path: "Sources/API/Kafka"
        ),
        .target(
            name: "Engine",
            dependencies: [
                "API", "CLinux", "Catalog", "Documents", "DuckDB", "EventLog", "Functions", "KafkaCodec", "Lake",
                "MartletCore",
                "Broker", "GRPCAPI", "KafkaAPI", "OTLP", "TelemetryExport", "Transactions",
                "Groups", "Identity", "Pipelines", "Tables",
                "Telemetry", "Topics", "Triggers", "WorkerGateway", "Workers", configuration, lifecycle, logging,
                nioPosix, signals, system,
            ]
        ),
        .target(
            name: "CommandLine",
            dependencies: ["MartletCore", arguments, httpClient, nioCore, nioHTTP1, nioPosix, yaml]
        ),
        .executableTarget(
            name: "eventlog-crash-writer",
            dependencies: ["EventLog", "KafkaCodec", "Transactions", logging],
            path: "Sources/EventLogCrashWriter"
        ),
        .executableTarget(
            name: "eventlog-benchmark",
            dependencies: ["EventLog", "KafkaCodec", logging],
            path: "Sources/EventLogBenchmark"
        ),
        .executableTarget(
            name: "grpc-example",
            dependencies: ["MartletProto", grpc, grpcProtobuf, grpcTransport, protobuf],
            path: "examples/grpc-swift/Sources"
        ),
        .executableTarget(
            name: "tables-benchmark",
            dependencies: [
                "Catalog", "CLinux", "DuckDB", "EventLog", "KafkaCodec", "Lake", "MartletCore", "Tables", "Telemetry",
                logging,
            ],
            path: "Sources/TablesBenchmark"
        ),
        .executableTarget(name: "LakeCrashWriter", dependencies: ["DuckDB", "Lake", "MartletCore", logging]),
        .executableTarget(
            name: "TriggersCrashWriter",
            dependencies: ["Catalog", "EventLog", "KafkaCodec", "MartletCore", "Triggers", "Views", logging]
        ),
        .executableTarget(
            name: "martlet",
            dependencies: ["CommandLine", "Engine", "Functions", "MartletCore", arguments, logging]
        ),
        .testTarget(name: "MartletCoreTests", dependencies: ["MartletCore"]),
        .testTarget(name: "DocumentsTests", dependencies: ["Documents", "MartletCore"]),
        .testTarget(name: "KafkaCodecTests", dependencies: ["KafkaCodec"]),
        .testTarget(name: "EventLogTests", dependencies: ["EventLog", "KafkaCodec", "eventlog-crash-writer", logging]),
        .testTarget(
            name: "TransactionsTests",
            dependencies: ["EventLog", "KafkaCodec", "Transactions", "eventlog-crash-writer", logging]
        ),
        .testTarget(name: "GroupsTests", dependencies: ["EventLog", "Groups", "KafkaCodec", "MartletCore", logging]),
        .testTarget(
            name: "KafkaAPITests",
            dependencies: [
                "Catalog", "EventLog", "Groups", "Identity", "KafkaAPI", "KafkaCodec", "MartletCore", "Topics",
                "Transactions",
                asn1, crypto, logging, nioCore, nioPosix, nioSSL, lifecycle, x509,
            ]
        ),
        .testTarget(
            name: "GRPCAPITests",
            dependencies: ["GRPCAPI", "RequestLimits", logging, nioCore, nioEmbedded, nioHPACK, nioHTTP2]
        ),
        .testTarget(
            name: "BrokerTests",
            dependencies: ["Broker", "EventLog", "Groups", "KafkaCodec", "MartletCore", logging]
        ),
        .testTarget(name: "CatalogTests", dependencies: ["Catalog", "MartletCore"]),
        .testTarget(
            name: "TopicsTests",
            dependencies: ["Catalog", "EventLog", "KafkaCodec", "MartletCore", "Topics", logging]
        ),
        .testTarget(
            name: "IdentityTests",
            dependencies: ["Catalog", "Identity", "MartletCore", crypto, jwt, logging, nioCore, nioPosix]
        ),
        .testTarget(name: "ArrowIPCTests", dependencies: ["ArrowIPC"]),
        .testTarget(name: "DuckDBTests", dependencies: ["DuckDB", "MartletCore"]),
        .testTarget(name: "LakeTests", dependencies: ["DuckDB", "Lake", "LakeCrashWriter", "MartletCore", logging]),
        .testTarget(name: "ViewsTests", dependencies: ["MartletCore", "Views"]),
        .testTarget(
            name: "TriggersTests",
            dependencies: [
                "Catalog", "Documents", "EventLog", "KafkaCodec", "MartletCore", "Triggers", "TriggersCrashWriter",
                "Views", logging,
            ]
        ),
        .testTarget(name: "FunctionsTests", dependencies: ["Catalog", "Documents", "Functions", "MartletCore"]),
        .testTarget(
            name: "PipelinesTests",
            dependencies: ["Documents", "KafkaCodec", "MartletCore", "Pipelines", "Workers"]
        ),
        .testTarget(
            name: "WorkersTests",
            dependencies: ["MartletCore", "Workers", logging, nioCore, nioPosix]
        ),
        .testTarget(
            name: "TablesTests",
            dependencies: ["Catalog", "Documents", "DuckDB", "KafkaCodec", "Lake", "MartletCore", "Tables", logging]
        ),
        .testTarget(
            name: "TelemetryTests",
            dependencies: ["Catalog", "DuckDB", "EventLog", "Lake", "MartletCore", "Tables", "Telemetry", logging]
        ),
        .testTarget(name: "OTLPTests", dependencies: ["MartletCore", "OTLP", protobuf]),
        .testTarget(name: "TelemetryExportTests", dependencies: ["MartletCore", "TelemetryExport"]),
        .testTarget(
            name: "EngineTests",
            dependencies: ["Catalog", "DuckDB", "Engine", "EventLog", "Lake", "MartletCore"]
        ),
        .testTarget(
            name: "APITests",
            dependencies: [
                "API", "Catalog", "Documents", "Identity", "MartletCore", httpClient, logging, nioCore, nioHTTP1,
                lifecycle,
                "Broker", "GRPCAPI", "KafkaCodec", "MartletProto", grpc, protobuf,
            ]
        ),
        .testTarget(
            name: "CommandLineTests",
            dependencies: ["CommandLine", "MartletCore", "martlet", arguments, nioCore, nioHTTP1, nioPosix]
        ),
    ]
)

for target in package.targets where ![.system, .binary, .plugin].contains(target.type) {
    target.swiftSettings =
        (target.swiftSettings ?? []) + [
            .treatAllWarnings(as: .error),
            .enableUpcomingFeature("ExistentialAny"),
            .enableUpcomingFeature("InternalImportsByDefault"),
            .enableUpcomingFeature("MemberImportVisibility"),
            .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
        ]
    target.cSettings = (target.cSettings ?? []) + [.treatAllWarnings(as: .error)]
}
