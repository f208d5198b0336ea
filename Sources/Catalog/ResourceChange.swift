// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

import GRDB
package import MartletCore

/// A resource that was made, changed or removed, as its transaction was stored.
package struct ResourceChange: Sendable {
    package let kind: ResourceKind
    package let name: String
    /// Who made the resource.
    package let owner: String
    /// What it was; nil where it was made.
    package let before: (any ResourceSpec)?
    /// What it is; nil where it was removed.
    package let after: (any ResourceSpec)?
}

/// Is told of changes in the order they were stored, on the catalog's writing thread; must not wait.
package typealias ResourceObserver = @Sendable (ResourceChange) -> Void

extension CatalogTransaction {
    /// Tells the observer once the transaction is stored, and never where it is not.
    func note<Spec: ResourceSpec>(_ resource: Resource<Spec>, before: Spec?, after: Spec?) {
        guard let observer else { return }
        let change = ResourceChange(
            kind: Spec.kind,
            name: resource.name,
            owner: resource.metadata.owner.name,
            before: before,
            after: after
        )
        db.afterNextTransaction(onCommit: { _ in observer(change) })
    }
}
