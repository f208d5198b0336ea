// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

extension OpenAPISchemas {
    private static let namePattern = #"^[A-Za-z][A-Za-z0-9_-]{0,99}$"#

    /// Tables, their documents, commits and what is done with them.
    static let tables: [(name: String, text: String)] = [
        ("Table", table),
        list("TableList", of: "Table"),
        ("TableCreate", document(required: #"["name","topic"]"#, example: example)),
        (
            "TableUpdate",
            document(required: "[]", example: #"{"columns":{"fare":"DECIMAL(18,2)"},"retention":"30d"}"#)
        ),
        ("TableCommit", commit),
        list("TableCommitList", of: "TableCommit"),
        (
            "TableCommitted",
            ##"{"type":"object","required":["commit"],"additionalProperties":false,"properties":{"commit":{"anyOf":[{"$ref":"#/components/schemas/TableCommit"},{"type":"null"}]}}}"##
        ),
        (
            "TableCompaction",
            ##"""
            {"type":"object","required":["files_before","files_after","bytes_before","bytes_after","rows"],"properties":{
            "files_before":{"type":"integer"},"files_after":{"type":"integer"},"bytes_before":{"type":"integer"},"bytes_after":{"type":"integer"},
            "rows":{"type":"integer","description":"Rows in the files that were written anew."},"commit":{"$ref":"#/components/schemas/TableCommit"}},
            "examples":[{"files_before":412,"files_after":7,"bytes_before":81264640,"bytes_after":61865984,"rows":1904233}]}
            """##
        ),
        (
            "TableReplay",
            ##"""
            {"type":"object","required":["replayed","still_rejected"],"properties":{"replayed":{"type":"integer","description":"Records that are rows now."},
            "still_rejected":{"type":"integer"},"commit":{"$ref":"#/components/schemas/TableCommit"}},"examples":[{"replayed":12,"still_rejected":0}]}
            """##
        ),
        (
            "TableFinding",
            #"""
            {"type":"object","required":["kind","path","problem","action","rows_lost","is_done"],"properties":{
            "kind":{"type":"string","enum":["missing_file","damaged_file","orphan_file","offset"]},
            "path":{"type":"string","description":"Below the table's folder; for offset the topic and partition."},"problem":{"type":"string"},
            "action":{"type":"string","description":"What would be done, or was."},"rows_lost":{"type":"integer"},"is_done":{"type":"boolean"},
            "failure":{"type":"string","description":"Why the action could not be taken; absent where it was, or was not tried."}},
            "examples":[{"kind":"orphan_file","path":"rows/day=2026-11-21/4-0.parquet","problem":"the catalog does not list it","action":"remove it","rows_lost":0,"is_done":false}]}
            """#
        ),
        list("TableFindingList", of: "TableFinding"),
    ]

    private static func list(_ name: String, of item: String) -> (name: String, text: String) {
        (
            name,
            ##"""
            {"type":"object","required":["data","pagination"],"additionalProperties":false,
            "properties":{"data":{"type":"array","items":{"$ref":"#/components/schemas/\##(item)"}},"pagination":{"$ref":"#/components/schemas/Pagination"}}}
            """##
        )
    }

    private static let column = #"""
        {"type":"object","required":["name","type","is_key"],"properties":{"name":{"type":"string"},"type":{"type":"string"},"is_key":{"type":"boolean"},
        "is_system":{"type":"boolean","description":"Filled by the engine from the record."}}}
        """#

    private static let declared = #"""
        {"type":"array","items":{"type":"object","required":["name","type"],"properties":{"name":{"type":"string"},"type":{"type":"string"}}}}
        """#

    private static let rule =
        #"{"type":"object","required":["field","value"],"properties":{"field":{"type":"string"},"value":{"type":"string"}}}"#

    private static let table = ##"""
        {"type":"object","required":["name","kind","columns","key","rows"],"description":"A table that functions keep has only these; one that follows a topic has the rest.",
        "properties":{"name":{"type":"string"},"kind":{"type":"string","enum":["keyed","append"]},"columns":{"type":"array","items":\##(column)},
        "key":{"type":"array","items":{"type":"string"}},"rows":{"type":"integer","description":"Rows not committed yet are among them."},
        "guid":{"type":"string"},"description":{"type":"string"},"tags":{"type":"array","items":{"type":"string"}},"topic":{"type":"string"},
        "format":{"type":"string","enum":["json","raw"]},"partition_by":{"type":"array","items":{"type":"string"}},
        "is_internal":{"type":"boolean","description":"One of the engine's own, system.NAME in SQL."},
        "location":{"type":"string","description":"Folder of the Parquet files."},"files":{"type":"integer"},"bytes":{"type":"integer"},
        "commits":{"type":"integer","description":"Number of the last commit."},"last_commit":{"$ref":"#/components/schemas/TableCommit"},
        "schema_version":{"type":"integer"},"fresh_rows":{"type":"integer","description":"Rows that wait for the next commit."},
        "rejected_rows":{"type":"integer","description":"Rows of NAME__rejected."},
        "lag_records":{"type":"integer","description":"Records of the topic that are not rows yet."},"lag_seconds":{"type":"number"},
        "state":{"type":"string","enum":["running","paused","failed","damaged"]},"reason":{"type":"string"},
        "settings":{"type":"object","properties":{"columns":\##(declared),"unknown_fields":{"type":"string","enum":["add","reject","ignore"]},
        "delete_rule":\##(rule),"commit_seconds":{"type":"integer"},"commit_bytes":{"type":"integer"},
        "retention_milliseconds":{"type":"integer"},"retention_bytes":{"type":"integer"},"history_seconds":{"type":"integer"},
        "start":{"type":"string","enum":["earliest","latest"]}}},
        "created_at":{"type":"string","format":"date-time"},"updated_at":{"type":"string","format":"date-time"}}}
        """##

    private static let commit = #"""
        {"type":"object","required":["number","kind","time","schema_version","rows_added","rows_removed","rows_rejected","files_added","files_removed","bytes_added","ranges"],
        "properties":{"number":{"type":"integer","minimum":1},"kind":{"type":"string","enum":["append","compaction","retention","replay","repair","schema"]},
        "time":{"type":"string","format":"date-time"},"schema_version":{"type":"integer"},"rows_added":{"type":"integer"},"rows_removed":{"type":"integer"},
        "rows_rejected":{"type":"integer"},"files_added":{"type":"integer"},"files_removed":{"type":"integer"},"bytes_added":{"type":"integer"},
        "ranges":{"type":"array","description":"What was taken from the topic.","items":{"type":"object","required":["partition","from","to"],
        "properties":{"partition":{"type":"integer"},"from":{"type":"integer"},"to":{"type":"integer","description":"The offset after the last."}}}}},
        "examples":[{"number":12,"kind":"append","time":"2026-11-21T12:10:00.000000Z","schema_version":2,"rows_added":18210,"rows_removed":0,"rows_rejected":3,
        "files_added":1,"files_removed":0,"bytes_added":482133,"ranges":[{"partition":0,"from":90210,"to":108423}]}]}
        """#

    private static let example = #"""
        {"name":"trips","topic":"trips","columns":{"id":"VARCHAR","fare":"DECIMAL(18,2)"},"unknown_fields":"add","partition_by":["day"],"commit_seconds":"10s","retention":"30d"}
        """#

    /// The settings as people write them; amounts may have units.
    private static func document(required: String, example: String) -> String {
        let time =
            #"{"type":["integer","string"],"description":"Seconds, or a text with a unit such as 10s, 12h or 30d."}"#
        let size = #"{"type":["integer","string","null"],"description":"Bytes, or a text with a unit such as 64MiB."}"#
        return #"""
            {"type":"object","required":\#(required),"properties":{"name":{"type":"string","pattern":"\#(namePattern)"},"topic":{"type":"string"},
            "description":{"type":["string","null"]},"tags":{"type":["array","null"],"items":{"type":"string"}},
            "format":{"type":"string","enum":["json","raw"],"default":"json"},
            "columns":{"oneOf":[\#(declared),{"type":"object","additionalProperties":{"type":"string"}}],
            "description":"Types: BOOLEAN, BIGINT, HUGEINT, DOUBLE, DECIMAL(w,s), VARCHAR, JSON, DATE, TIMESTAMP."},
            "unknown_fields":{"type":"string","enum":["add","reject","ignore"],"default":"add"},"key":{"type":"array","items":{"type":"string"}},
            "delete_rule":{"anyOf":[\#(rule),{"type":"string","description":"field=value"}]},
            "partition_by":{"type":"array","items":{"type":"string"},"default":["day"],"description":"hour, day or declared columns."},
            "commit_seconds":\#(time),"commit_bytes":\#(size),"retention":\#(time),"retention_milliseconds":{"type":"integer"},"retention_bytes":\#(size),
            "history_seconds":\#(time),"start":{"type":"string","enum":["earliest","latest"],"default":"earliest"}},
            "examples":[\#(example)]}
            """#
    }
}
