// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import MartletCore

/// Where a page of a list ended, opaque to callers.
enum ListCursor {
    /// The row number after which the page starts; checks the query's limit too.
    static func check(_ query: ListQuery, scope: String) throws(ServiceError) -> Int64 {
        guard (1...1000).contains(query.limit) else {
            throw .invalid(field: "limit", "\(query.limit) is out of range", fix: "use 1 to 1000")
        }
        guard let cursor = query.cursor else { return 0 }
        guard let text = decode(cursor), let separator = text.lastIndex(of: ":"), text[..<separator] == scope,
            let id = Int64(text[text.index(after: separator)...]), id >= 0
        else {
            throw .invalid(
                field: "cursor",
                "'\(cursor.prefix(100))' is not a cursor of this list",
                fix: "pass next_cursor of the page before as it is, or leave cursor out to start again"
            )
        }
        return id
    }

    static func text(scope: String, _ id: Int64) -> String {
        Data("\(scope):\(id)".utf8).base64EncodedString()
            .replacing("+", with: "-").replacing("/", with: "_").replacing("=", with: "")
    }

    private static func decode(_ cursor: String) -> String? {
        let padding = String(repeating: "=", count: (4 - cursor.utf8.count % 4) % 4)
        let standard = cursor.replacing("-", with: "+").replacing("_", with: "/") + padding
        return Data(base64Encoded: standard).flatMap { String(bytes: $0, encoding: .utf8) }
    }
}
