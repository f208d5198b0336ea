// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import MartletCore

extension EngineClient {
    /// Refuses names that nothing has, for questions whose answer is empty; what was deleted counts while `path` finds something of it.
    ///
    /// - Throws: `CommandFailure` `.notFound` with the nearest name there is.
    func requireNames(_ path: [String], pipeline: String?, function: String?) async throws {
        for (kind, noun, name) in [("pipelines", "pipeline", pipeline), ("functions", "function", function)] {
            guard let name else { continue }
            do {
                _ = try await get([kind, name])
            } catch let failure as CommandFailure where failure.status == .notFound {
                let found = try await get(path, query: [(noun, name), ("limit", path.last == "names" ? nil : "1")])
                guard Self.items(found).isEmpty else { continue }
                let names = try await pages([kind], limit: 1000, cursor: nil).items.compactMap {
                    $0["name"]?.stringValue
                }
                throw Self.unknown(noun, name, among: names, list: "martlet \(kind) list")
            }
        }
    }

    /// What to say of a name that nothing has.
    static func unknown(_ noun: String, _ name: String, among names: [String], list: String) -> CommandFailure {
        let near = NearestName.of(name, among: names).map { "did you mean '\($0)'? " } ?? ""
        return CommandFailure(.notFound, "there is no \(noun) '\(name)'", fix: "\(near)List what exists with: \(list)")
    }
}
