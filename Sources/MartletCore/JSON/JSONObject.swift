// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// A JSON object that keeps its keys in order; two are equal when their members are equal in the same order.
package struct JSONObject: Sendable, Hashable {
    /// One key with its value.
    package struct Member: Sendable, Hashable {
        /// The key, unique in its object unless it was read to be passed on as it is.
        package var key: String
        /// The value.
        package var value: JSONValue

        /// Makes a member.
        package init(key: String, value: JSONValue) {
            self.key = key
            self.value = value
        }
    }

    /// The members in order.
    package private(set) var members: [Member]

    /// Makes an empty object.
    package init() {
        members = []
    }

    /// Makes an object of members; when a key is repeated its first place and its last value are kept.
    package init(members: [Member]) {
        self.members = members
        if members.count < 12 {
            let isUnique = members.indices.allSatisfy { index in
                !members[..<index].contains { $0.key == members[index].key }
            }
            if isUnique { return }
        }
        var places: [String: Int] = [:]
        places.reserveCapacity(members.count)
        self.members.removeAll(keepingCapacity: true)
        for member in members {
            if let place = places[member.key] {
                self.members[place].value = member.value
            } else {
                places[member.key] = self.members.count
                self.members.append(member)
            }
        }
    }

    /// Makes an object of members as they were written, keys that are repeated included.
    init(asWritten members: [Member]) { self.members = members }

    /// The value of a key; setting nil removes the member, setting a new key appends it.
    package subscript(key: String) -> JSONValue? {
        get { members.first { $0.key == key }?.value }
        set {
            let place = members.firstIndex { $0.key == key }
            switch (place, newValue) {
            case (let place?, let value?): members[place].value = value
            case (let place?, nil): members.remove(at: place)
            case (nil, let value?): members.append(Member(key: key, value: value))
            case (nil, nil): break
            }
        }
    }

    /// The keys in order.
    package var keys: [String] { members.map(\.key) }

    /// How many members there are.
    package var count: Int { members.count }

    /// Whether there is no member.
    package var isEmpty: Bool { members.isEmpty }
}
