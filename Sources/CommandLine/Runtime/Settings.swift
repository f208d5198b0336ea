// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import MartletCore

/// Where the engine is and how to speak to it: flags before environment before configuration file before defaults.
struct Settings: Sendable, Equatable {
    static let defaultServer = "http://127.0.0.1:8070"

    /// Base address without a trailing slash.
    var server: String
    var token: String?
    var format: OutputFormat
    /// Seconds an answer may take.
    var timeout: Double

    init(
        server flag: String?,
        token: String?,
        output: OutputFormat?,
        timeout: Double?,
        environment: [String: String]
    ) throws {
        let file = try ConfigurationFile.load(environment: environment)
        let address = flag ?? environment["MARTLET_SERVER"].nonEmpty ?? file["server"].nonEmpty
        server = try Self.normalise(address ?? Self.defaultServer)
        let secret = (token ?? environment["MARTLET_TOKEN"].nonEmpty ?? file["token"]).nonEmpty
        self.token = secret
        if let output {
            format = output
        } else if let word = environment["MARTLET_OUTPUT"].nonEmpty ?? file["output"].nonEmpty {
            guard let format = OutputFormat(argument: word) else {
                throw CommandFailure.usage("'\(word)' is no output format", fix: "use human, json or yaml")
            }
            self.format = format
        } else {
            format = .human
        }
        self.timeout = timeout ?? 60
        guard self.timeout > 0, self.timeout <= 86_400 else {
            throw CommandFailure.usage(
                "--timeout \(self.timeout) is out of range",
                fix: "use seconds, above 0 and up to 86400"
            )
        }
        if let secret, secret.utf8.contains(where: { $0 < 0x21 || $0 > 0x7E }) {
            throw CommandFailure.usage("the token has a character that a header cannot carry")
        }
    }

    /// Variables that look like those the client reads and are none, with what was probably meant; the engine's own are not looked at.
    static func misspelled(_ environment: [String: String]) -> [(name: String, meant: String)] {
        let prefix = "MARTLET_"
        let known = ["SERVER", "TOKEN", "OUTPUT", "CONFIG"]
        return environment.keys.sorted().compactMap { name in
            guard name.hasPrefix(prefix) else { return nil }
            let rest = String(name.dropFirst(prefix.count))
            guard !known.contains(rest), let near = NearestName.of(rest, among: known) else { return nil }
            return (name, prefix + near)
        }
    }

    /// Adds what people leave out of an address, and refuses what is none.
    private static func normalise(_ text: String) throws -> String {
        var address = text.trimmingCharacters(in: .whitespaces)
        if !address.contains("://") { address = "http://" + address }
        while address.hasSuffix("/") { address.removeLast() }
        if address.hasSuffix("/api/v1") { address.removeLast(7) }
        guard let components = URLComponents(string: address), let scheme = components.scheme?.lowercased(),
            ["http", "https"].contains(scheme), let host = components.host, !host.isEmpty, components.query == nil
        else {
            throw CommandFailure.usage(
                "'\(text)' is not the address of an engine",
                fix: "write it like \(defaultServer)"
            )
        }
        return address
    }
}

extension String? {
    var nonEmpty: String? {
        switch self {
        case let text? where !text.isEmpty: text
        default: nil
        }
    }
}
