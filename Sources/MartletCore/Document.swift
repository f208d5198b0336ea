// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// What a caller submitted, as a tree, with the line each field stood on.
///
/// Services read resources from documents, because only they know which spellings a field may have.
package struct Document: Sendable {
    package var value: JSONValue
    /// Line, from 1, of each field by dotted path (`manifest.links[0].source`); the root is "".
    package var lines: [String: Int]

    package init(value: JSONValue, lines: [String: Int] = [:]) {
        self.value = value
        self.lines = lines
    }
}
