// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// Media types of requests and what callers accept.
enum MediaType {
    /// The type and subtype, lower case, without parameters.
    static func essence(_ header: some StringProtocol) -> String {
        String(header.prefix { $0 != ";" }).lowercased().filter { $0 != " " && $0 != "\t" }
    }

    /// The first of `offered` that an `Accept` header allows, weighed by its quality; nil where none is.
    static func choose(_ offered: [String], accept: String?) -> String? {
        guard let accept, !accept.allSatisfy({ $0 == " " }) else { return offered.first }
        let ranges = accept.split(separator: ",").map { part in
            let pieces = part.split(separator: ";")
            let quality =
                pieces.dropFirst().lazy
                .map { $0.filter { $0 != " " } }
                .first { $0.lowercased().hasPrefix("q=") }
                .flatMap { Double($0.dropFirst(2)) } ?? 1
            return (range: essence(part), quality: quality)
        }
        var best: (type: String, quality: Double)?
        for type in offered {
            let fits = ranges.filter { matches($0.range, type) }
            // The most specific range decides, so that */* does not bring back what is excluded by name.
            guard let most = fits.max(by: { rank($0.range) < rank($1.range) }), most.quality > 0 else { continue }
            if best == nil || most.quality > (best?.quality ?? 0) { best = (type, most.quality) }
        }
        return best?.type
    }

    private static func matches(_ range: String, _ type: String) -> Bool {
        if range == "*/*" || range == "*" || range == type { return true }
        // Line-delimited JSON is JSON to whoever asks for that only.
        if range == "application/json", type == "application/x-ndjson" { return true }
        return range.hasSuffix("/*") && type.hasPrefix(range.dropLast())
    }

    private static func rank(_ range: String) -> Int {
        range.hasPrefix("*") ? 0 : range.hasSuffix("/*") ? 1 : 2
    }
}
