// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import CommandLine
import Engine
import Functions
import MartletCore

/// What the command line does with function folders on this machine.
struct LocalWorkshop: FunctionWorkshop {
    func scaffold(name: String, folder: String, handler: String, force: Bool) throws -> [String] {
        try FunctionScaffold.write(runtime: "python-pip", name: name, to: folder, handler: handler, force: force)
    }

    func archive(folder: String) throws -> [UInt8] {
        try FunctionFolder.archive(folder)
    }

    func localRun(_ run: LocalRun) async throws -> Int32 {
        try await LocalFunction(run).serve()
    }
}
