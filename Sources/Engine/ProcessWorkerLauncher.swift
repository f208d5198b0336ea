// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Catalog
import Foundation
import Functions
import Glibc
import MartletCore
import Pipelines
import Workers

/// Describes worker processes: bundle, environment, secrets laid out as files, socket and token.
struct ProcessWorkerLauncher: WorkerLauncher {
    /// Variables of the engine's own environment that functions may see.
    private static let inherited = [
        "PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY",
        "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
    ]

    let functions: FunctionService
    let secrets: SecretStore
    let layout: DataLayout
    let authority: String
    let broker: String
    /// Makes worker ids unique over engine restarts.
    let instance: String

    func spec(for plan: DeploymentPlan, workerID: String) async throws -> WorkerSpec {
        let launch = try await functions.launch(plan.bundleDigest)
        let id = "\(workerID)-\(instance)-\(String(UInt32.random(in: .min ... .max), radix: 36))"
        let token = (0..<4).map { _ in String(UInt64.random(in: .min ... .max), radix: 36) }.joined()
        let socket = "\(layout.sockets)/w-\(String(UInt64.random(in: .min ... .max), radix: 36)).sock"
        let folder = "\(layout.temporary)/workers/\(id)"
        let values = try await secrets.values(plan.secrets)
        try Self.lay(values, in: folder + "/secrets")
        var environment: [String: String] = [:]
        for name in Self.inherited { environment[name] = ProcessInfo.processInfo.environment[name] }
        environment["HOME"] = environment["HOME"] ?? "/"
        for variable in plan.environment { environment[variable.name] = variable.value }
        for (name, value) in launch.environment { environment[name] = value }
        for name in launch.removedVariables { environment[name] = nil }
        environment["MARTLET_WORKER_ID"] = id
        environment["MARTLET_WORKER_SOCKET"] = socket
        environment["MARTLET_GATEWAY_SOCKET"] = layout.gatewaySocket
        environment["MARTLET_WORKER_TOKEN"] = token
        environment["MARTLET_CONCURRENCY"] = String(plan.workerConcurrency)
        environment["MARTLET_TIMEOUT_SECONDS"] = String(plan.resources.timeoutSeconds)
        environment["MARTLET_SECRETS_DIR"] = folder + "/secrets"
        environment["MARTLET_FUNCTION_CONTEXT"] = context(plan)
        environment["VAST_LOG_LEVEL"] = plan.logLevel
        environment["K_NAME"] = plan.name
        environment["K_REV_ID"] = String(plan.revision)
        environment["K_VERSION"] = String(plan.revision)
        environment["VASTSTACK_NAME"] = plan.pipelineName
        return WorkerSpec(
            id: id,
            token: token,
            executable: launch.executable,
            arguments: launch.arguments,
            environment: environment,
            workingDirectory: launch.appPath,
            socketPath: socket,
            concurrency: plan.workerConcurrency,
            memoryBytesMax: plan.resources.maxMemoryBytes > 0 ? plan.resources.maxMemoryBytes : nil,
            scratchDirectory: folder
        )
    }

    private func context(_ plan: DeploymentPlan) -> String {
        let downstream = plan.downstream.sorted { $0.key < $1.key }.map { name, labels in
            JSONObject.Member(
                key: name,
                value: .object(
                    JSONObject(
                        members: labels.sorted { $0.key < $1.key }.map { .init(key: $0.key, value: .string($0.value)) }
                    )
                )
            )
        }
        return JSONValue.object(
            JSONObject(members: [
                .init(key: "function_name", value: .string(plan.functionName)),
                .init(key: "function_revision", value: .int(Int64(plan.revision))),
                .init(key: "pipeline_name", value: .string(plan.pipelineName)),
                .init(key: "deployment_name", value: .string(plan.name)),
                .init(key: "downstream", value: .object(JSONObject(members: downstream))),
                .init(key: "broker", value: .string(broker)),
                .init(key: "authority", value: .string(authority)),
            ])
        ).text
    }

    /// Writes `<folder>/<secret>/<key>`, readable by this user only; removed with the worker.
    private static func lay(_ secrets: [String: [String: String]], in folder: String) throws {
        try FileManager.default.createDirectory(
            atPath: folder,
            withIntermediateDirectories: true,
            attributes: [.posixPermissions: 0o700]
        )
        for (name, entries) in secrets {
            let directory = "\(folder)/\(name)"
            try FileManager.default.createDirectory(
                atPath: directory,
                withIntermediateDirectories: true,
                attributes: [.posixPermissions: 0o700]
            )
            for (key, value) in entries {
                guard !key.contains("/"), key != ".", key != ".." else { continue }
                let path = "\(directory)/\(key)"
                guard
                    FileManager.default.createFile(
                        atPath: path,
                        contents: Data(value.utf8),
                        attributes: [.posixPermissions: 0o600]
                    )
                else {
                    throw ServiceError(
                        .unavailable,
                        "the secret '\(name)' cannot be laid out at \(path): \(String(cString: strerror(errno)))"
                    )
                }
            }
        }
    }
}
