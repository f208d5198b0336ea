// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import CommandLine
import Engine

/// The one executable: `martlet serve` and the command-line client.
@main
struct Martlet: AsyncParsableCommand {
    static let configuration = MartletCommand.configuration(adding: [ServeCommand.self])

    static func main() async {
        await MartletCommand.main(Self.self, workshop: LocalWorkshop(), version: Engine.version)
    }
}
