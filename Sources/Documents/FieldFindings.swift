// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import MartletCore

/// What a document's readers found wrong, collected so that a person sees all of it at once.
final class FieldFindings {
    /// Most faults that are reported.
    static let countMax = 100

    let lines: [String: Int]
    private(set) var faults: [ServiceError.FieldError] = []
    private var seen: Set<String> = []

    init(lines: [String: Int]) {
        self.lines = lines
    }

    func add(_ fault: ServiceError.FieldError) {
        guard faults.count < Self.countMax, seen.insert("\(fault.field)\u{0}\(fault.message)").inserted else { return }
        faults.append(fault)
    }

    /// The line of a field, or of the nearest field around it.
    func line(of path: String) -> Int? {
        var path = Substring(path)
        while true {
            if let line = lines[String(path)] { return line }
            guard let cut = path.lastIndex(where: { $0 == "." || $0 == "[" }) else { return lines[""] }
            path = path[..<cut]
        }
    }
}
