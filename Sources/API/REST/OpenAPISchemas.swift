// Martlet: a self-hosted data engine.
// SPDX-License-Identifier: Apache-2.0

/// The schemas of bodies and answers, as JSON text.
enum OpenAPISchemas {
    /// RFC 3339, or a duration before now.
    static let timePattern =
        #"^([0-9]{1,6}[smhd]|20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9]))$"#

    static var all: [(name: String, text: String)] {
        general + resources + documents + requests + answers + telemetry + tables + groups + records + kafkaAccess
    }

    private static let namePattern = #"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"#

    private static let general: [(name: String, text: String)] = [
        (
            "Problem",
            #"""
            {"type":"object","required":["type","title","status","detail","instance","code","errors"],"additionalProperties":false,
            "properties":{"type":{"type":"string"},"title":{"type":"string"},"status":{"type":"integer","minimum":400,"maximum":599},
            "detail":{"type":"string","description":"What happened and where."},"instance":{"type":"string","description":"Names the request."},
            "code":{"type":"string","enum":["invalid","notFound","alreadyExists","inUse","failedPrecondition","unauthenticated","forbidden",
            "tooLarge","unavailable","timeout","storageFull","storageFailed","internal","methodNotAllowed","notAcceptable","unsupportedMediaType"]},
            "fix":{"type":"string","description":"What to do about it."},
            "errors":{"type":"array","items":{"type":"object","required":["field","message"],"additionalProperties":false,
            "properties":{"field":{"type":"string","description":"Dotted path."},"message":{"type":"string"},"fix":{"type":"string"},"line":{"type":"integer","minimum":1}}}},
            "trace":{"type":"string","description":"A Python traceback."}},
            "examples":[{"type":"urn:martlet:error:notFound","title":"There is no such thing","status":404,"detail":"no view named 'frames'",
            "instance":"urn:martlet:request:4f","code":"notFound","fix":"list what exists with: martlet views list","errors":[]}]}
            """#
        ),
        (
            "Pagination",
            #"""
            {"type":"object","required":["next_cursor","previous_cursor"],"additionalProperties":false,
            "properties":{"next_cursor":{"type":["string","null"]},"previous_cursor":{"type":"null"}}}
            """#
        ),
        (
            "Owner",
            #"""
            {"type":"object","required":["id","id_type","name"],"properties":{"id":{"type":"string"},"id_type":{"type":"string"},"name":{"type":"string"}}}
            """#
        ),
        (
            "Metadata",
            #"""
            {"type":"object","required":["id","guid","name","description","tags","owner","created_at","updated_at","vrn"],
            "properties":{"id":{"type":"integer","description":"The order of lists."},"guid":{"type":"string","format":"uuid"},"name":{"type":"string"},
            "description":{"type":"string"},"tags":{"type":"array","items":{"type":"string"}},"owner":{"$ref":"#/components/schemas/Owner"},
            "created_at":{"type":"string","format":"date-time"},"updated_at":{"type":"string","format":"date-time"},
            "vrn":{"type":"string","description":"vast:dataengine:<kind>:<name>"}}}
            """#
        ),
        ("Nothing", #"{"type":"object","additionalProperties":false}"#),
        ("OpenAPI", #"{"type":"object","required":["openapi","info","paths"]}"#),
        (
            "Health",
            #"{"type":"object","required":["status"],"properties":{"status":{"type":"string","enum":["ok","ready"]}}}"#
        ),
    ]

    /// A resource and the page of it.
    private static func resource(_ name: String, required: String, properties: String) -> [(name: String, text: String)]
    {
        [
            (
                name,
                ##"{"allOf":[{"$ref":"#/components/schemas/Metadata"},{"type":"object","required":[\##(required)],"properties":{\##(properties)}}]}"##
            ),
            page("\(name)List", of: name),
        ]
    }

    private static func page(_ name: String, of item: String) -> (name: String, text: String) {
        (
            name,
            #"""
            {"type":"object","required":["data","pagination"],"additionalProperties":false,
            "properties":{"data":{"type":"array","items":{"$ref":"#/components/schemas/\#(item)"}},"pagination":{"$ref":"#/components/schemas/Pagination"}}}
            """#
        )
    }

    private static let resources: [(name: String, text: String)] =
        resource(
            "View",
            required: #""path","status""#,
            properties: #""path":{"type":"string"},"status":{"type":"string"},"reason":{"type":"string"}"#
        )
        + resource(
            "Trigger",
            required: #""type","events","config","topic_name","custom_extensions","status""#,
            properties: #"""
                "type":{"type":"string","enum":["Element","Schedule"]},"source_bucket_name":{"type":"string"},"events":{"type":"array","items":{"type":"string"}},
                "config":{"type":"object","properties":{"name_filters":{"$ref":"#/components/schemas/Filters"},"tag_filters":{"$ref":"#/components/schemas/Filters"},
                "cron_schedule":{"type":"string"},"cron_expression":{"type":"string"},"time_zone":{"type":"string"},"missed_fires":{"type":"string"}}},
                "topic_name":{"type":"string"},"custom_extensions":{"type":"object","additionalProperties":{"type":"string"}},
                "status":{"type":"string"},"reason":{"type":"string"}
                """#
        )
        + resource(
            "Function",
            required: #""runtime","last_revision_number""#,
            properties: #"""
                "runtime":{"type":"string"},"default_revision_number":{"type":"integer"},"last_revision_number":{"type":"integer"},
                "last_published_revision_number":{"type":"integer"}
                """#
        )
        + resource(
            "FunctionRevision",
            required:
                #""function_name","function_guid","revision_number","bundle_digest","artifact_source","image_tag","handler","is_published""#,
            properties: #"""
                "function_name":{"type":"string"},"function_guid":{"type":"string"},"revision_number":{"type":"integer","minimum":1},"alias":{"type":"string"},
                "bundle_digest":{"type":"string"},"artifact_source":{"type":"string"},"image_tag":{"type":"string"},"handler":{"type":"string"},
                "is_published":{"type":"boolean"}
                """#
        )
        + resource(
            "Pipeline",
            required: #""status","last_revision_number","uses""#,
            properties: #"""
                "status":{"type":"string","enum":["Draft","InProgress","Ready","Paused","Failure"]},"reason":{"type":"string"},
                "last_revision_number":{"type":"integer"},"deployed_revision_number":{"type":"integer"},
                "deployed_function_revisions":{"type":"object","additionalProperties":{"type":"integer"}},
                "uses":{"type":"array","items":{"type":"object","required":["kind","name"],"properties":{"kind":{"type":"string"},"name":{"type":"string"}}}}
                """#
        )
        + resource(
            "PipelineRevision",
            required: #""pipeline_name","pipeline_guid","revision_number","manifest""#,
            properties: #"""
                "pipeline_name":{"type":"string"},"pipeline_guid":{"type":"string"},"revision_number":{"type":"integer","minimum":1},
                "manifest":{"$ref":"#/components/schemas/Manifest"}
                """#
        )
        + resource(
            "Topic",
            required: #""partitions","is_default","is_dead_letter","is_internal""#,
            properties: #"""
                "partitions":{"type":"integer","minimum":1},"retention_milliseconds":{"type":"integer"},"retention_bytes":{"type":"integer"},
                "is_default":{"type":"boolean"},"is_dead_letter":{"type":"boolean"},"is_internal":{"type":"boolean"},
                "configs":{"type":"object","additionalProperties":{"type":"string"},"description":"Settings that are set, by Kafka's names."},
                "kafka_topic_id":{"type":"string","description":"The id that Kafka's clients know the topic by."}
                """#
        )
        + resource("Secret", required: #""keys""#, properties: #""keys":{"type":"array","items":{"type":"string"}}"#)
        + [
            (
                "Filters",
                #"{"type":"object","properties":{"prefixes":{"type":"array","items":{"type":"string"}},"suffixes":{"type":"array","items":{"type":"string"}}}}"#
            ),
            (
                "Manifest",
                #"""
                {"type":"object","required":["environment_variables","secrets","triggers","function_deployments","links"],"properties":{
                "environment_variables":{"type":"array","items":{"type":"object","required":["name","value"],"properties":{"name":{"type":"string"},"value":{"type":"string"}}}},
                "secrets":{"type":"array","items":{"type":"string"}},
                "triggers":{"type":"array","items":{"type":"object","required":["name","trigger"],"properties":{"name":{"type":"string"},"trigger":{"type":"string"}}}},
                "function_deployments":{"type":"array","items":{"type":"object","required":["name","function"]}},
                "links":{"type":"array","items":{"type":"object","required":["source","destination"]}},
                "tables":{"type":"array","items":{"type":"object","required":["name","topic"]}}}}
                """#
            ),
        ]

    /// What people submit; services read it, so further spellings of the reference are accepted than are listed.
    private static let documents: [(name: String, text: String)] = [
        (
            "ViewCreate",
            body(
                required: ["name", "path"],
                properties: #""path":{"type":"string","minLength":1,"description":"Absolute path of a directory."}"#,
                example: #"{"name":"frames","path":"/srv/frames","description":"Rendered frames"}"#
            )
        ),
        (
            "ViewUpdate",
            body(
                required: [],
                properties: #""path":{"type":"string","minLength":1}"#,
                example: #"{"description":"Rendered frames"}"#
            )
        ),
        ("TriggerCreate", body(required: ["name", "type"], properties: trigger, example: triggerExample)),
        ("TriggerUpdate", body(required: [], properties: trigger, example: #"{"events":["ObjectCreated:*"]}"#)),
        ("FunctionCreate", body(required: ["name"], properties: function, example: functionExample)),
        ("FunctionUpdate", body(required: [], properties: function, example: #"{"image_tag":"v2","publish":true}"#)),
        ("PipelineCreate", body(required: ["name"], properties: pipeline, example: pipelineExample)),
        ("PipelineUpdate", body(required: [], properties: pipeline, example: #"{"description":"Inspects frames"}"#)),
        ("TopicCreate", body(required: ["name"], properties: topic, example: #"{"name":"frames","partitions":8}"#)),
        ("TopicUpdate", body(required: [], properties: topic, example: #"{"retention_bytes":1073741824}"#)),
        (
            "SecretCreate",
            #"""
            {"anyOf":[\#(secretForm(required: #""name","entries""#)),\#(secretShort)],
            "examples":[{"name":"database","entries":[{"key":"user","value":"reader"}]},{"database":{"user":"reader"}}]}
            """#
        ),
        (
            "SecretUpdate",
            #"{"anyOf":[\#(secretForm(required: "")),\#(secretShort)],"examples":[{"entries":[{"key":"user","value":"writer"}]}]}"#
        ),
    ]

    private static func body(required: [String], properties: String, example: String) -> String {
        let names = required.map { "\"\($0)\"" }.joined(separator: ",")
        return #"""
            {"type":"object","required":[\#(names)],"properties":{"name":{"type":"string","pattern":"\#(namePattern)"},
            "description":{"type":["string","null"]},"tags":{"type":["array","null"],"items":{"type":"string"}},\#(properties)},"examples":[\#(example)]}
            """#
    }

    private static let trigger = #"""
        "type":{"type":"string","description":"Element or Schedule."},"source_bucket_name":{"type":"string"},
        "events":{"type":"array","items":{"type":"string","enum":["ObjectCreated:*","ObjectRemoved:*","ObjectTagging:Put","ObjectTagging:Delete"]}},
        "config":{"type":"object","properties":{"name_filters":{"$ref":"#/components/schemas/Filters"},"tag_filters":{"$ref":"#/components/schemas/Filters"},
        "cron_schedule":{"type":"string"},"time_zone":{"type":"string"},"missed_fires":{"type":"string","enum":["skip","once","all"]}}},
        "topic_name":{"type":"string"},"custom_extensions":{"type":"object","additionalProperties":{"type":"string"}}
        """#
    private static let triggerExample =
        #"{"name":"on-frame","type":"Element","source_bucket_name":"frames","events":["ObjectCreated:*"],"config":{"name_filters":{"suffixes":[".exr"]}}}"#
    private static let function = #"""
        "artifact_source":{"type":"string","description":"Name of the bundle."},"image_tag":{"type":"string"},"handler":{"type":"string"},
        "runtime":{"type":"string"},"publish":{"type":"boolean"},"revision_alias":{"type":"string"},"revision_description":{"type":"string"},
        "default_revision_number":{"type":"integer"}
        """#
    private static let functionExample =
        #"{"name":"exr-inspector","artifact_source":"exr-inspector","image_tag":"latest","publish":true}"#
    private static let pipeline = #""manifest":{"type":"object","description":"See the pipelines page."}"#
    private static let pipelineExample =
        #"{"name":"p","manifest":{"triggers":[{"name":"t","vrn":"vast:dataengine:triggers:on-frame"}],"function_deployments":[{"name":"f","function_vrn":"vast:dataengine:functions:exr-inspector","revision":1}],"links":[{"source":["t"],"destination":["f"]}]}}"#
    private static let topic = #"""
        "partitions":{"type":"integer","minimum":1,"maximum":1024},"retention_milliseconds":{"type":["integer","null"],"minimum":1},
        "retention_bytes":{"type":["integer","null"],"minimum":1},
        "configs":{"type":["object","null"],"additionalProperties":{"type":"string"},
        "description":"Settings by Kafka's names; an empty text gives one its default again."}
        """#

    private static func secretForm(required: String) -> String {
        #"""
        {"type":"object","required":[\#(required)],"additionalProperties":false,"properties":{"name":{"type":"string","pattern":"\#(namePattern)"},
        "description":{"type":["string","null"]},"tags":{"type":["array","null"],"items":{"type":"string"}},
        "kubernetes_cluster_vrn":{"type":["string","null"]},"namespace":{"type":["string","null"]},
        "entries":{"type":"array","minItems":1,"maxItems":1000,"items":{"type":"object","required":["key","value"],"additionalProperties":false,
        "properties":{"key":{"type":"string","pattern":"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,252}$"},"value":{"type":"string"}}}}}}
        """#
    }

    private static let secretShort = #"""
        {"type":"object","minProperties":1,"maxProperties":1,"propertyNames":{"pattern":"\#(namePattern)"},
        "additionalProperties":{"type":"object","minProperties":1,"maxProperties":1000,"propertyNames":{"pattern":"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,252}$"},
        "additionalProperties":{"type":"string"}}}
        """#

    private static let requests: [(name: String, text: String)] = [
        (
            "ElementTags",
            #"""
            {"type":"object","required":["key","tags"],"additionalProperties":false,"properties":{"key":{"type":"string","minLength":1},
            "tags":{"type":"object","additionalProperties":{"type":"string"}}},"examples":[{"key":"shots/a.exr","tags":{"state":"final"}}]}
            """#
        ),
        (
            "Deploy",
            #"{"type":"object","additionalProperties":false,"properties":{"revision":{"type":"integer","minimum":1,"maximum":2147483647}},"examples":[{},{"revision":3}]}"#
        ),
        (
            "Replay",
            #"""
            {"type":"object","required":["from"],"additionalProperties":false,
            "properties":{"from":{"oneOf":[{"type":"integer","minimum":0,"maximum":9223372036854775807},{"type":"string","pattern":"\#(timePattern.replacing("\\", with: "\\\\"))"}]}},
            "examples":[{"from":"2026-04-08T15:41:29Z"},{"from":0}]}
            """#
        ),
        (
            "Redrive",
            #"""
            {"type":"object","additionalProperties":false,"oneOf":[{"required":["ids"]},{"required":["pipeline"]}],
            "properties":{"ids":{"type":"array","minItems":1,"items":{"type":"string"}},"pipeline":{"type":"string"}},
            "examples":[{"ids":["0-17"]},{"pipeline":"exr-inspection"}]}
            """#
        ),
        (
            "Query",
            #"""
            {"type":"object","required":["sql"],"additionalProperties":false,"properties":{"sql":{"type":"string"},
            "parameters":{"type":"array","items":{"type":["string","number","boolean","null"]}},
            "timeout_seconds":{"type":"integer","minimum":1,"maximum":3600,"default":60},"limit":{"type":"integer","minimum":1,"maximum":1000000,"default":10000},
            "max_staleness_seconds":{"type":"integer","minimum":0,"maximum":86400000,"description":"Leave out rows that are not committed yet where the last commit is no older than this."},
            "as_of":{"type":"object","additionalProperties":{"type":"string"},"description":"Append tables to read as they were: commit number or RFC 3339 time by name."}},
            "examples":[{"sql":"SELECT compression, count(*) FROM parts GROUP BY 1","limit":100}]}
            """#
        ),
        (
            "StatementCreate",
            #"""
            {"type":"object","required":["sql"],"additionalProperties":false,"properties":{"sql":{"type":"string"},
            "parameters":{"type":"array","items":{"type":["string","number","boolean","null"]}},
            "timeout_seconds":{"type":"integer","minimum":1,"maximum":86400},"write":{"type":"boolean","default":false},
            "max_staleness":{"type":"number","minimum":0,"maximum":31536000,"description":"Seconds."},
            "as_of":{"type":"object","additionalProperties":{"type":"string"},"description":"Commit by table."}},
            "examples":[{"sql":"SELECT compression, count(*) FROM parts GROUP BY 1"}]}
            """#
        ),
        ("CloudEvent", cloudEvent),
        ("CloudEventBatch", ##"{"type":"array","items":{"$ref":"#/components/schemas/CloudEvent"}}"##),
    ]

    private static let cloudEvent = #"""
        {"type":"object","required":["specversion","id","source","type"],"properties":{"specversion":{"type":"string","const":"1.0"},
        "id":{"type":"string","minLength":1},"source":{"type":"string","minLength":1,"pattern":"^[A-Za-z0-9._~:/?#@!$&'()*+,;=%-]+$"},"type":{"type":"string","minLength":1},
        "subject":{"type":["string","null"]},"time":{"type":["string","null"],"format":"date-time"},"datacontenttype":{"type":["string","null"]},
        "dataschema":{"type":["string","null"]},"data":{},"data_base64":{"type":["string","null"]}},
        "examples":[{"specversion":"1.0","id":"4fa1","source":"vastdata.com:shell","type":"vastdata.com:Function","datacontenttype":"application/json","data":{"msg":"hello"}}]}
        """#

    private static let answers: [(name: String, text: String)] = [
        (
            "Element",
            #"""
            {"type":"object","required":["key","size_bytes","modified_at","tags"],"properties":{"key":{"type":"string"},"size_bytes":{"type":"integer"},
            "modified_at":{"type":"string","format":"date-time"},"tags":{"type":"object","additionalProperties":{"type":"string"}}}}
            """#
        ),
        page("ElementList", of: "Element"),
        (
            "FireTimes",
            #"{"type":"object","required":["data"],"properties":{"data":{"type":"array","items":{"type":"string","format":"date-time"}}}}"#
        ),
        (
            "Bundle",
            #"""
            {"type":"object","required":["digest","name","tag","handler","size_bytes","python_version","environment_digest","environment_cached","unchanged"],
            "properties":{"digest":{"type":"string"},"name":{"type":"string"},"tag":{"type":"string"},"handler":{"type":"string"},"size_bytes":{"type":"integer"},
            "python_version":{"type":"string"},"environment_digest":{"type":"string"},"environment_cached":{"type":"boolean"},"unchanged":{"type":"boolean"}}}
            """#
        ),
        page("BundleList", of: "Bundle"),
        (
            "BuildLine",
            #"{"description":"One line: {\"line\": text}, at the end {\"bundle\": Bundle} or {\"error\": Problem}."}"#
        ),
        (
            "Deployment",
            #"""
            {"type":"object","required":["name","function","revision","workers","workers_ready","in_flight","lag","succeeded","failed","retried","dead_lettered"],
            "properties":{"name":{"type":"string"},"function":{"type":"string"},"revision":{"type":"integer"},"workers":{"type":"integer"},
            "workers_ready":{"type":"integer"},"in_flight":{"type":"integer"},"lag":{"type":"integer"},"succeeded":{"type":"integer"},"failed":{"type":"integer"},
            "retried":{"type":"integer"},"dead_lettered":{"type":"integer"},"reason":{"type":"string"}}}
            """#
        ),
        page("DeploymentList", of: "Deployment"),
        (
            "Partition",
            #"""
            {"type":"object","required":["partition","start_offset","end_offset"],
            "properties":{"partition":{"type":"integer"},"start_offset":{"type":"integer"},"end_offset":{"type":"integer"},
            "size_bytes":{"type":"integer"}}}
            """#
        ),
        page("PartitionList", of: "Partition"),
        (
            "TopicSetting",
            #"""
            {"type":"object","required":["name","value","default_value","is_set","description"],"properties":{"name":{"type":"string"},
            "value":{"type":"string"},"default_value":{"type":"string"},"is_set":{"type":"boolean"},"description":{"type":"string"}}}
            """#
        ),
        page("TopicSettingList", of: "TopicSetting"),
        (
            "DeletedRecords",
            #"{"type":"object","required":["start_offset"],"properties":{"start_offset":{"type":"integer","description":"The first offset left."}}}"#
        ),
        ("Published", #"{"type":"object","required":["count"],"properties":{"count":{"type":"integer","minimum":0}}}"#),
        (
            "Replayed",
            #"{"type":"object","required":["records"],"properties":{"records":{"type":"integer","minimum":0}}}"#
        ),
        (
            "Redriven",
            #"{"type":"object","required":["redriven"],"properties":{"redriven":{"type":"integer","minimum":0}}}"#
        ),
        (
            "DeadLetter",
            #"""
            {"type":"object","required":["id","at","pipeline","deployment","error","error_type","traceback","attempts","origin_topic","origin_partition","origin_offset",
            "trace_id","redriven","data_bytes","event"],"properties":{"id":{"type":"string"},"at":{"type":"string","format":"date-time"},"pipeline":{"type":"string"},
            "deployment":{"type":"string"},"error":{"type":"string"},"error_type":{"type":"string"},"traceback":{"type":["string","null"]},"attempts":{"type":"integer"},
            "origin_topic":{"type":"string"},"origin_partition":{"type":"integer"},"origin_offset":{"type":"integer"},"trace_id":{"type":["string","null"]},
            "redriven":{"type":"boolean"},"data_bytes":{"type":"integer"},"event":{"$ref":"#/components/schemas/CloudEvent"}}}
            """#
        ),
        page("DeadLetterList", of: "DeadLetter"),
        (
            "QueryAnswer",
            #"""
            {"type":"object","required":["columns","rows","truncated"],"additionalProperties":false,"properties":{
            "columns":{"type":"array","items":{"type":"object","required":["name","type"],"properties":{"name":{"type":"string"},"type":{"type":"string"}}}},
            "rows":{"type":"array","items":{"type":"array"}},"truncated":{"type":"boolean"}}}
            """#
        ),
        (
            "Statement",
            #"""
            {"type":"object","required":["id","sql","state","write","caller","created_at","progress","rows_read"],"additionalProperties":false,"properties":{
            "id":{"type":"string"},"sql":{"type":"string"},"state":{"type":"string","enum":["queued","running","finished","failed","cancelled"]},
            "write":{"type":"boolean"},"caller":{"type":"string"},"created_at":{"type":"string","format":"date-time"},
            "started_at":{"type":"string","format":"date-time"},"finished_at":{"type":"string","format":"date-time"},
            "progress":{"type":"object","required":["fraction","rows_processed","rows_total"],"additionalProperties":false,"properties":{
            "fraction":{"type":"number","minimum":0,"maximum":1},"rows_processed":{"type":"integer"},"rows_total":{"type":"integer"},
            "seconds_left":{"type":"number","description":"Absent while it would be a guess."}}},
            "columns":{"type":"array","items":{"type":"object","required":["name","type"],"properties":{"name":{"type":"string"},"type":{"type":"string"}}}},
            "rows_changed":{"type":"integer"},"rows_read":{"type":"integer","description":"Rows handed out so far."},
            "error":{"type":"object","required":["code","message"],"additionalProperties":false,"properties":{"code":{"type":"string"},"message":{"type":"string"},
            "fix":{"type":"string"},"line":{"type":"integer","minimum":1},"column":{"type":"integer","minimum":1}}}}}
            """#
        ),
        page("StatementList", of: "Statement"),
        (
            "StatementRows",
            #"""
            {"type":"object","required":["columns","rows","next_cursor"],"additionalProperties":false,"properties":{
            "columns":{"type":"array","items":{"type":"object","required":["name","type"],"properties":{"name":{"type":"string"},"type":{"type":"string"}}}},
            "rows":{"type":"array","items":{"type":"array"}},"next_cursor":{"type":["string","null"]},"rows_changed":{"type":"integer"}}}
            """#
        ),
        (
            "Engine",
            #"""
            {"type":"object","required":["version","started_at","data_directory","damage"],"properties":{"version":{"type":"string"},"duckdb_version":{"type":"string"},
            "started_at":{"type":"string","format":"date-time"},"data_directory":{"type":"string"},"grpc_address":{"type":"string"},"kafka_address":{"type":"string"},"functions_obstacle":{"type":"string","description":"Why functions can neither be built nor run; absent where they can."},
            "damage":{"type":"array","items":{"type":"object","required":["what","path","message"],
            "properties":{"what":{"type":"string"},"path":{"type":"string"},"message":{"type":"string"}}}}}}
            """#
        ),
    ]

    private static let telemetry: [(name: String, text: String)] = [
        (
            "LogRecord",
            #"""
            {"type":"object","required":["time","severity","scope","message","attributes"],"properties":{"time":{"type":"string","format":"date-time"},
            "severity":{"type":"string"},"scope":{"type":"string"},"pipeline":{"type":"string"},"function":{"type":"string"},"message":{"type":"string"},
            "trace_id":{"type":"string"},"span_id":{"type":"string"},"attributes":{"type":"object","additionalProperties":{"type":"string"}}}}
            """#
        ),
        page("LogList", of: "LogRecord"),
        (
            "Span",
            #"""
            {"type":"object","required":["trace_id","span_id","name","kind","start_micros","duration_micros","status","attributes","events"],
            "properties":{"trace_id":{"type":"string"},"span_id":{"type":"string"},"parent_span_id":{"type":"string"},"name":{"type":"string"},"kind":{"type":"string"},
            "start_micros":{"type":"integer"},"duration_micros":{"type":"integer"},"status":{"type":"string","enum":["UNSET","OK","ERROR"]},"status_message":{"type":"string"},
            "pipeline":{"type":"string"},"function":{"type":"string"},"event_id":{"type":"string"},"event_type":{"type":"string"},
            "attributes":{"type":"object","additionalProperties":{"type":"string"}},
            "events":{"type":"array","items":{"type":"object","required":["name","time","attributes"],"properties":{"name":{"type":"string"},
            "time":{"type":"string","format":"date-time"},"attributes":{"type":"object","additionalProperties":{"type":"string"}}}}}}}
            """#
        ),
        (
            "TraceSummary",
            #"""
            {"type":"object","required":["trace_id","start","duration_micros","status","functions","spans","depth"],"properties":{"trace_id":{"type":"string"},
            "start":{"type":"string","format":"date-time"},"duration_micros":{"type":"integer"},"status":{"type":"string"},"pipeline":{"type":"string"},
            "functions":{"type":"array","items":{"type":"string"}},"event_id":{"type":"string"},"event_type":{"type":"string"},"spans":{"type":"integer"},"depth":{"type":"integer"}}}
            """#
        ),
        page("TraceList", of: "TraceSummary"),
        ("OTLPRequest", #"{"type":"object"}"#),
        (
            "OTLPResponse",
            #"""
            {"type":"object","properties":{"partialSuccess":{"type":"object","properties":{"errorMessage":{"type":"string"}}}}}
            """#
        ),
        (
            "OTLPStatus",
            #"{"type":"object","properties":{"code":{"type":"integer"},"message":{"type":"string"}}}"#
        ),
        (
            "Trace",
            #"""
            {"type":"object","required":["spans","logs"],"properties":{"spans":{"type":"array","items":{"$ref":"#/components/schemas/Span"}},
            "logs":{"type":"array","items":{"$ref":"#/components/schemas/LogRecord"}}}}
            """#
        ),
        (
            "MetricName",
            #"""
            {"type":"object","required":["name","type","unit","description","series"],"properties":{"name":{"type":"string"},
            "type":{"type":"string","enum":["Counter","UpDownCounter","Gauge","Histogram"]},"unit":{"type":"string"},"description":{"type":"string"},
            "series":{"type":"integer","description":"Sets of attributes that have points."},"last_seen":{"type":"string","format":"date-time"}}}
            """#
        ),
        page("MetricNameList", of: "MetricName"),
        (
            "MetricAnswer",
            #"""
            {"type":"object","required":["since","end","step_seconds","group_by","series","missing","groups_left_out"],"properties":{
            "since":{"type":"string","format":"date-time"},"end":{"type":"string","format":"date-time"},"step_seconds":{"type":"integer","minimum":1},
            "group_by":{"type":"array","items":{"type":"string"}},
            "series":{"type":"array","items":{"type":"object","required":["name","type","unit","aggregation","group","count","points"],"properties":{
            "name":{"type":"string"},"type":{"type":"string"},"unit":{"type":"string"},"aggregation":{"type":"string"},
            "group":{"type":"object","additionalProperties":{"type":"string"}},
            "total":{"type":"number","description":"The aggregation over the whole time; absent without points."},"count":{"type":"integer"},
            "points":{"type":"array","items":{"type":"object","required":["time","count"],"properties":{"time":{"type":"string","format":"date-time"},
            "value":{"type":"number","description":"Absent where nothing was measured."},"count":{"type":"integer"}}}}}}},
            "missing":{"type":"array","items":{"type":"string"},"description":"Names without points."},
            "groups_left_out":{"type":"integer","minimum":0}}}
            """#
        ),
    ]
}
