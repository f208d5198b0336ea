// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// The columns that do not come from a record's value, of rows or of rejects.
struct SystemMemory {
    var partition = ColumnMemory(stride: 4)
    var offset = ColumnMemory(stride: 8)
    var timestamp = ColumnMemory(stride: 8)
    var key = ColumnMemory(stride: 16)
    var value = ColumnMemory(stride: 16)
    /// Offset and length of each row's part of the header columns.
    var headers = ColumnMemory(stride: 16)
    var headerNames = ColumnMemory(stride: 16)
    var headerValues = ColumnMemory(stride: 16)
    var headerCount = 0
    var id = ColumnMemory(stride: 16)
    var type = ColumnMemory(stride: 16)
    var source = ColumnMemory(stride: 16)
    var subject = ColumnMemory(stride: 16)
    var traceID = ColumnMemory(stride: 16)
    var reason = ColumnMemory(stride: 16)
    /// Set where a row of a keyed table deletes its key.
    var deletes = ColumnMemory(stride: 1)
    /// Rows filled in.
    var count = 0

    /// Every column of memory, for what is done to all of them.
    static var all: [WritableKeyPath<SystemMemory, ColumnMemory>] {
        [
            \.partition, \.offset, \.timestamp, \.key, \.value, \.headers, \.headerNames, \.headerValues, \.id, \.type,
            \.source, \.subject, \.traceID, \.reason, \.deletes,
        ]
    }

    mutating func erase() {
        let rows = max(count, headerCount)
        for column in Self.all { self[keyPath: column].erase(first: rows) }
        count = 0
        headerCount = 0
    }

    func free() {
        for column in Self.all { self[keyPath: column].free() }
    }

    /// Bytes of memory it holds.
    var memoryBytes: Int { Self.all.reduce(0) { $0 + self[keyPath: $1].memoryBytes } }

    var byteCount: Int {
        Self.all.reduce(0) { sum, column in
            let memory = self[keyPath: column]
            return sum + min(memory.capacity, max(count, headerCount)) * memory.stride
        }
    }
}
