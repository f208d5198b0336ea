// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import MartletCore

/// A point in time as people write it: RFC 3339, or a duration before now such as `90s`, `5m`, `2h`, `1d`.
enum TimeExpression {
    static func date(_ text: String) -> Date? {
        // A form-decoded '+' of an offset arrives as a space.
        if let date = Timestamp.parse(text.replacing(" ", with: "+")) ?? Timestamp.parse(text) { return date }
        guard let unit = text.last, let seconds = ["s": 1, "m": 60, "h": 3600, "d": 86_400][unit],
            let count = Int(text.dropLast()), (0...1_000_000).contains(count)
        else { return nil }
        return Date().addingTimeInterval(-Double(count * seconds))
    }
}
