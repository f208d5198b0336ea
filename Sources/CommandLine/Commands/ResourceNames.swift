// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import MartletCore

/// Names of what exists, for shell completion: quick, and empty when anything is wrong.
enum ResourceNames {
    /// A completion that asks the engine for names of one kind.
    static func complete(_ kind: String) -> @Sendable ([String], Int, String) async -> [String] {
        { words, _, prefix in await names(kind, words: words, prefix: prefix) }
    }

    private static func names(_ kind: String, words: [String], prefix: String) async -> [String] {
        do {
            let session = try Session.current
            let settings = try Settings(
                server: value(of: "--server", in: words),
                token: value(of: "--token", in: words),
                output: .json,
                timeout: 1,
                environment: session.environment
            )
            let request = APIRequest(
                "GET",
                kind.split(separator: "/").map(String.init),
                // Some lists are always whole, and take no limit.
                query: kind.contains("/") || kind == "groups" ? [] : [("limit", "500")]
            )
            let bytes = try await Transport.with(server: settings.server, token: settings.token, seconds: 1) {
                try await $0.collect(try await $0.send(request), of: request, limit: 4 << 20)
            }
            let items = EngineClient.items(try .init(parsing: bytes))
            return items.compactMap { $0["name"]?.stringValue ?? $0["id"]?.stringValue ?? $0["id"]?.text }.filter {
                $0.hasPrefix(prefix)
            }
        } catch {
            return []  // A shell waiting for completions has no place for messages.
        }
    }

    private static func value(of option: String, in words: [String]) -> String? {
        if let word = words.first(where: { $0.hasPrefix(option + "=") }) {
            return String(word.dropFirst(option.count + 1))
        }
        guard let index = words.firstIndex(of: option), index + 1 < words.count else { return nil }
        return words[index + 1]
    }
}
