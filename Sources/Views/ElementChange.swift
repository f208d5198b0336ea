// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// One thing that happened to an element.
package struct ElementChange: Sendable, Equatable {
    /// What happened.
    package enum Kind: Sendable, Equatable, CaseIterable {
        /// The file was closed after writing, moved in or linked.
        case created
        /// The file was deleted or moved out.
        case removed
        /// A tag was set or got another value.
        case tagPut
        /// A tag was removed.
        case tagRemoved
    }

    /// What happened.
    package var kind: Kind
    /// Path below the view, with `/`.
    package var key: String
    /// The element afterwards; for `.removed` as it was last known.
    package var state: ElementState
    /// The tag concerned; for `.tagRemoved` with the value it had.
    package var tag: Tag?
    /// User id of the file's owner, where it is known.
    package var owner: UInt32?
    /// Whether it was found by comparing the directory with what was known, not by a notification.
    package var isFromScan: Bool
    /// When it was seen, microseconds since 1970.
    package var seenMicros: Int64

    /// One tag.
    package struct Tag: Sendable, Equatable, Hashable {
        /// Name without `user.`.
        package var name: String
        /// Its value.
        package var value: String

        /// Makes a tag.
        package init(name: String, value: String) {
            self.name = name
            self.value = value
        }
    }

    /// Makes a change.
    package init(
        _ kind: Kind,
        key: String,
        state: ElementState,
        tag: Tag? = nil,
        owner: UInt32? = nil,
        isFromScan: Bool = false,
        seenMicros: Int64
    ) {
        self.kind = kind
        self.key = key
        self.state = state
        self.tag = tag
        self.owner = owner
        self.isFromScan = isFromScan
        self.seenMicros = seenMicros
    }

    /// What must have happened for one state to become the other, nil being no element.
    ///
    /// The tags of a new element follow its creation. `isRewritten` reports equal content as created again.
    package static func between(
        _ old: ElementState?,
        _ new: ElementState?,
        key: String,
        owner: UInt32? = nil,
        isRewritten: Bool = false,
        isFromScan: Bool,
        seenMicros: Int64
    ) -> [ElementChange] {
        func change(_ kind: Kind, _ state: ElementState, _ tag: Tag? = nil) -> ElementChange {
            ElementChange(
                kind,
                key: key,
                state: state,
                tag: tag,
                owner: owner,
                isFromScan: isFromScan,
                seenMicros: seenMicros
            )
        }
        guard let new else { return old.map { [change(.removed, $0)] } ?? [] }
        var changes: [ElementChange] = []
        if isRewritten || old?.hasSameContent(as: new) != true { changes.append(change(.created, new)) }
        let oldTags = old?.tags ?? [:]
        guard oldTags != new.tags else { return changes }
        for (name, value) in oldTags.sorted(by: { $0.key < $1.key }) where new.tags[name] == nil {
            changes.append(change(.tagRemoved, new, Tag(name: name, value: value)))
        }
        for (name, value) in new.tags.sorted(by: { $0.key < $1.key }) where oldTags[name] != value {
            changes.append(change(.tagPut, new, Tag(name: name, value: value)))
        }
        return changes
    }
}

/// Changes seen together, in order, and what is known of the elements after them.
package struct ElementBatch: Sendable {
    /// What happened.
    package var changes: [ElementChange] = []
    /// The state of every element touched, nil where it is gone; also of those that changed in a way nobody is told of.
    package var states: [String: ElementState?] = [:]
    /// Whether all that a scan of the whole view found lies in this and earlier batches.
    package var endsScan = false

    /// Makes an empty batch.
    package init() {}

    /// Whether there is nothing in it.
    package var isEmpty: Bool { changes.isEmpty && states.isEmpty && !endsScan }
}
