// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

package import Catalog
package import MartletCore

/// What a manifest refers to, and where in its document.
package struct ManifestReferences: Sendable, Equatable {
    /// One reference.
    package struct Place: Sendable, Equatable {
        /// What it names.
        package var target: ResourceReference
        /// The revision of a function, where the field is about that and not about the function.
        package var revision: Int?
        /// Dotted path of the field.
        package var field: String
        /// Line in the document.
        package var line: Int?
    }

    /// Why a reference cannot be followed.
    package struct Fault: Sendable, Equatable {
        /// What is missing.
        package var message: String
        /// What to do about it.
        package var fix: String

        /// Makes a fault.
        package init(message: String, fix: String) {
            self.message = message
            self.fix = fix
        }
    }

    /// In the order of the document's fields.
    package private(set) var places: [Place] = []

    mutating func add(_ kind: ResourceKind, _ name: String, revision: Int? = nil, field: String, line: Int?) {
        let target = ResourceReference(kind: kind, name: name)
        places.append(Place(target: target, revision: revision, field: field, line: line))
    }

    /// Checks that everything the manifest of a pipeline refers to exists, revisions of functions included.
    ///
    /// - Throws: `ServiceError` `.notFound` with every field at fault.
    package func check(pipeline: String, in transaction: CatalogTransaction) throws {
        try check(pipeline: pipeline) { place in
            let target = place.target
            guard let revision = place.revision else {
                guard try !transaction.exists(target) else { return nil }
                return Fault(
                    message: "there is no \(target.kind.noun) '\(target.name)'",
                    fix: "create it first, or list what exists with: martlet \(target.kind.rawValue) list"
                )
            }
            // A function that is missing is the fault of another field.
            guard let function = try transaction.find(FunctionSpec.self, target.name),
                try transaction.functionRevision(functionGuid: function.guid, number: revision) == nil
            else { return nil }
            return Fault(
                message: "function '\(function.name)' has no revision \(revision); "
                    + "its newest is \(function.spec.lastRevisionNumber)",
                fix: "list what exists with: martlet functions get \(function.name) --with-revisions"
            )
        }
    }

    /// Asks `fault` about every reference.
    ///
    /// - Throws: `ServiceError` `.notFound` with every field at fault.
    package func check(pipeline: String, fault: (Place) throws -> Fault?) throws {
        let faults = try places.compactMap { place in
            try fault(place).map {
                ServiceError.FieldError(field: place.field, message: $0.message, fix: $0.fix, line: place.line)
            }
        }
        guard let first = faults.first else { return }
        guard faults.count == 1 else {
            let message = "the pipeline '\(pipeline)' needs \(faults.count) things that do not exist"
            throw ServiceError(.notFound, message, fields: faults)
        }
        let place = first.line.map { "line \($0), " } ?? ""
        throw ServiceError(.notFound, "\(place)\(first.field): \(first.message)", fix: first.fix, fields: faults)
    }
}
