// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Documents
import Foundation
import Functions
package import MartletCore

/// Runs one function on this machine without an engine: builds its environment, then becomes the worker.
package struct LocalFunction: Sendable {
    private let request: LocalRun

    /// Says what to run and where to serve it.
    package init(_ request: LocalRun) {
        self.request = request
    }

    /// Serves the function on loopback: this process becomes the worker, or starts it and returns at once where detached.
    ///
    /// - Returns: The exit code.
    /// - Throws: `ServiceError` where it cannot be built or its configuration cannot be read.
    package func serve() async throws -> Int32 {
        let settings = try await EngineConfiguration.load(file: nil, flags: [:])
        let python = PythonRuntime(environment: settings.pythonEnvironment, sdk: settings.pythonSDK)
        if let obstacle = python.obstacle { throw obstacle }
        let cache =
            ProcessInfo.processInfo.environment["XDG_CACHE_HOME"]
            ?? (ProcessInfo.processInfo.environment["HOME"] ?? NSHomeDirectory()) + "/.cache"
        let builder = BundleBuilder(
            FunctionSettings(root: cache + "/martlet/functions", python: python.python, runtimePaths: python.paths)
        )
        let archive = try FunctionFolder.archive(request.folder)
        let bundle = try await builder.build(
            BundleBuilder.Request(archive: archive, name: request.name, tag: "localrun", handler: request.handler)
        ) { line in
            FileHandle.standardError.write(Data((line + "\n").utf8))
        }
        let launch = try builder.store.launch(bundle.digest)
        var environment = ProcessInfo.processInfo.environment
        for name in launch.removedVariables { environment[name] = nil }
        for (name, value) in launch.environment { environment[name] = value }
        let folder = URL(fileURLWithPath: request.folder).standardizedFileURL.path
        environment["MARTLET_APP_PATH"] = folder
        environment["MARTLET_LOCALRUN_CONFIG"] = try configuration()
        let arguments = [
            "-m", "martlet.localrun", "--app-path", folder, "--handler", request.handler, "--port",
            String(request.port), "--log-level", request.logLevel,
        ]
        if request.detach {
            let process = try ChildProgram.spawn(launch.executable, arguments, environment: environment)
            let lines =
                "\(request.name) runs as process \(process) on port \(request.port); stop it with: kill \(process)\n"
            FileHandle.standardOutput.write(Data(lines.utf8))
            return 0
        }
        throw ChildProgram.become(launch.executable, arguments, environment: environment)
    }

    /// The configuration file as JSON; nil where there is none, which the worker warns about.
    private func configuration() throws -> String? {
        let path = request.config ?? request.folder + "/config.yaml"
        guard let data = FileManager.default.contents(atPath: path) else {
            if request.config != nil {
                FileHandle.standardError.write(Data("no configuration file \(path); going on without\n".utf8))
            }
            return nil
        }
        return try DocumentParser.parse(Array(data), contentType: nil).value.text
    }
}
