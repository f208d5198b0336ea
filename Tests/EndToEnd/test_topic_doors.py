# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""What every door to topics refuses: the engine's own topics, settings that would promise too much, names, places beyond the end."""

import http.client
import json

import confluent_kafka
import grpc
import pytest
from confluent_kafka.admin import (
    AclBinding, AclOperation, AclPermissionType, AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic,
    ResourcePatternType, ResourceType, ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion,
)  # fmt: skip
from grpc_client import Client
from kafka_clients import Confluent, Message
from martlet.v1 import topics_pb2

OWN = "__system.logs"
STRUCTURED = "application/cloudevents+json"
EVENT = {"specversion": "1.0", "id": "forged", "source": "/x", "type": "x.Forged", "data": {"message": "forged"}}


@pytest.fixture(scope="module")
def engine(shared):
    return shared


@pytest.fixture(scope="module")
def admin(engine):
    return AdminClient({"bootstrap.servers": engine.get("engine")["kafka_address"]})


def code_of(future) -> str:
    with pytest.raises(confluent_kafka.KafkaException) as refused:
        future.result(30)
    return refused.value.args[0].name(), refused.value.args[0].str()


# The engine's own topics


BINARY = {"Content-Type": "application/json", "ce-specversion": "1.0", "ce-id": "f", "ce-source": "/x", "ce-type": "x.F"}


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        ("events", EVENT["data"], BINARY), ("events", EVENT, {"Content-Type": STRUCTURED}),
        ("events", [EVENT], {"Content-Type": "application/cloudevents-batch+json"}), ("records", {"records": [{"value": "forged"}]}, {}),
    ],
    ids=["binary", "structured", "batch", "records"],
)  # fmt: skip
def test_http_writes_nothing_into_the_engines_own_topics(engine, path, body, headers):
    for name in [OWN, engine.get(f"topics/{OWN}")["guid"], f"martlet:topics:{OWN}"]:
        said = engine.http("POST", f"/api/v1/topics/{name}/{path}", body, headers).problem(403, "forbidden")
        assert OWN in said["detail"] and said["fix"]
    assert engine.sql("select count(*) from system.logs where message like 'forged%'") == [[0]]


def test_http_neither_changes_nor_deletes_them(engine):
    before = engine.get(f"topics/{OWN}")
    for change in [{"retention_milliseconds": 300_000}, {"partitions": 4}, {"configs": {"max.message.bytes": "2048"}}, {"description": "x"}]:
        said = engine.http("PUT", f"/api/v1/topics/{OWN}", change).problem(403, "forbidden")
        assert "martlet tables update system.logs --retention" in said["fix"]
    engine.http("DELETE", f"/api/v1/topics/{OWN}").problem(403, "forbidden")
    engine.http("POST", "/api/v1/topics", {"name": "__mine"}).problem(422)
    assert engine.get(f"topics/{OWN}") == before
    # What the refusal names works.
    engine.cli("tables", "update", "system.logs", "--retention", "7d")


def test_the_command_line_is_refused_too(engine):
    for words in [
        ("publish", OWN, "--data", '{"message": "forged"}'), ("publish", OWN, "-g"), ("produce", OWN),
        ("update", OWN, "--retention", "5m"), ("delete", OWN, "--force"),
    ]:  # fmt: skip
        done = engine.run("topics", *words, input="forged\n")
        assert done.returncode != 0 and "engine's own" in done.stderr, (words, done)
    # Read it can be.
    engine.cli("topics", "get", OWN)


def test_kafka_and_grpc_refuse_the_same(engine, admin):
    place = engine.get("engine")["kafka_address"]
    with pytest.raises(Exception, match="TOPIC_AUTHORIZATION_FAILED|authorization"):
        Confluent().produce(place, OWN, [Message(b"forged")])
    resource = ConfigResource(ConfigResource.Type.TOPIC, OWN)
    entry = ConfigEntry("retention.ms", "300000", incremental_operation=AlterConfigOpType.SET)
    changed = ConfigResource(ConfigResource.Type.TOPIC, OWN, incremental_configs=[entry])
    futures = [
        admin.delete_topics([OWN])[OWN], admin.incremental_alter_configs([changed])[changed],
        admin.create_partitions([confluent_kafka.admin.NewPartitions(OWN, 3)])[OWN],
        admin.create_topics([NewTopic("__mine", 1)])["__mine"],
        *admin.delete_records([confluent_kafka.TopicPartition(OWN, 0, 1)]).values(),
    ]  # fmt: skip
    assert {code_of(future)[0] for future in futures} == {"TOPIC_AUTHORIZATION_FAILED"}
    assert admin.describe_configs([resource])[resource].result(30)
    client = Client(engine)
    try:
        for call, request in [
            (client.topics.UpdateTopic, topics_pb2.UpdateTopicRequest(name=OWN, retention_ms=300_000)),
            (client.topics.UpdateTopic, topics_pb2.UpdateTopicRequest(name=OWN, configs={"retention.ms": "300000"})),
            (client.topics.DeleteTopic, topics_pb2.DeleteTopicRequest(name=OWN)),
        ]:
            with pytest.raises(grpc.RpcError) as refused:
                call(request, timeout=30)
            assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED, refused.value
    finally:
        client.close()


def test_no_trigger_writes_into_them(engine):
    trigger = {"name": "forger", "type": "Schedule", "cron_schedule": "0 0 0 1 1 ? 2099", "topic": OWN}
    assert "engine's own" in engine.http("POST", "/api/v1/triggers", trigger).problem(403)["detail"]


# Users and rules where nobody has to log in


def test_strangers_make_neither_users_nor_rules(make_engine):
    engine = make_engine(settings={"MARTLET_TOKEN": "secret-of-the-operator", "MARTLET_KAFKA_ACLS_ENABLED": "true", "MARTLET_KAFKA_ACLS_SUPER_USERS": "User:ANONYMOUS"})
    engine.start()
    assert "the token does not cover the Kafka door" in engine.log_tail(100_000)
    admin = AdminClient({"bootstrap.servers": engine.get("engine")["kafka_address"]})
    wanted = UserScramCredentialUpsertion("admin", ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 8192), b"stranger's")
    code, text = code_of(admin.alter_user_scram_credentials([wanted])["admin"])
    assert code == "CLUSTER_AUTHORIZATION_FAILED" and "martlet kafka users" in text
    rule = AclBinding(
        ResourceType.TOPIC, "*", ResourcePatternType.LITERAL, "User:mallory", "*", AclOperation.ALL, AclPermissionType.ALLOW
    )
    code, text = code_of(admin.create_acls([rule])[rule])
    assert code == "CLUSTER_AUTHORIZATION_FAILED" and "martlet kafka acls" in text
    assert engine.items("kafka/users") == [] and engine.items("kafka/acls") == []
    # Whoever has the token does it over REST.
    done = engine.run("kafka", "users", "create", "admin", "--password-file", "-", input="operator's password\n", MARTLET_TOKEN=engine.token)
    assert done.returncode == 0, done.stderr
    assert [user["name"] for user in engine.items("kafka/users")] == ["admin"]


# Settings


KEPT = {
    "min.insync.replicas": ("1", "2"), "flush.messages": ("1", "10"), "flush.ms": ("9223372036854775807", "1000"),
    "segment.jitter.ms": ("0", "5"), "index.interval.bytes": ("4096", "100"), "preallocate": ("true", "false"),
    "unclean.leader.election.enable": ("false", "true"), "file.delete.delay.ms": ("0", "60000"),
}  # fmt: skip


def test_settings_that_would_promise_what_is_not_done_are_refused(engine, admin):
    engine.post("topics", {"name": "d-settings"})
    for name, (done, promised) in KEPT.items():
        refused = engine.http("PUT", "/api/v1/topics/d-settings", {"configs": {name: promised}}).problem(422)
        assert name in refused["detail"] and "leave it out" in refused["fix"], refused
        code, _ = code_of(admin.create_topics([NewTopic("d-refused", 1, config={name: promised})])["d-refused"])
        assert code == "INVALID_CONFIG"
        engine.api("PUT", "topics/d-settings", {"configs": {name: done}})
    both = {"martlet.durability": "power_failure_loses_last_second", "flush.messages": "1"}
    assert "flush.messages" in engine.http("PUT", "/api/v1/topics/d-settings", {"configs": both}).problem(422)["detail"]
    # What describing a topic says can be set again.
    engine.post("topics", {"name": "d-again"})
    resource = ConfigResource(ConfigResource.Type.TOPIC, "d-again")
    shown = admin.describe_configs([resource])[resource].result(30)
    entries = [ConfigEntry(one.name, one.value, incremental_operation=AlterConfigOpType.SET) for one in shown.values()]
    again = ConfigResource(ConfigResource.Type.TOPIC, "d-again", incremental_configs=entries)
    admin.incremental_alter_configs([again])[again].result(30)


# Names


@pytest.mark.parametrize("name", ["-dash", "_under", ".hidden", "x" * 249, "...", "0"])
def test_names_follow_kafkas_rule_over_every_door(engine, admin, name):
    assert engine.post("topics", {"name": name})["name"] == name
    assert name in admin.list_topics(timeout=10).topics
    engine.post(f"topics/{name}/records", {"records": [{"value": "a"}]})
    assert engine.get(f"topics/{name}/records")["data"][0]["value"] == "a"
    assert engine.cli("topics", "consume", "-e", "--", name) == "a\n"
    admin.delete_topics([name])[name].result(30)
    admin.create_topics([NewTopic(name, 1)])[name].result(30)
    engine.api("DELETE", f"topics/{name}")


@pytest.mark.parametrize("name", ["", ".", "..", "x" * 250, "a b", "a/b", "ä"])
def test_names_that_kafka_refuses_are_refused_everywhere(engine, admin, name):
    engine.http("POST", "/api/v1/topics", {"name": name}).problem(422)
    if name:
        code_of(admin.create_topics([NewTopic(name, 1)])[name])


# Following


@pytest.mark.parametrize("query", ["offset=9999", "cursor=0:9999", ""])
def test_following_from_beyond_the_end_is_an_error_status(engine, query):
    topic = "d-beyond"
    if engine.http("GET", f"/api/v1/topics/{topic}").status == 404:
        engine.post("topics", {"name": topic})
    headers = {"Accept": "text/event-stream"} | ({} if query else {"Last-Event-ID": "0:9999"})
    connection = http.client.HTTPConnection("127.0.0.1", engine.port, timeout=30)
    try:
        connection.request("GET", f"/api/v1/topics/{topic}/records?{query}", headers=headers)
        answer = connection.getresponse()
        assert answer.status == 422 and answer.headers.get_content_type() == "application/problem+json"
        said = json.loads(answer.read())
        assert "beyond the end" in said["detail"] and "up to 0" in said["fix"]
    finally:
        connection.close()


# Events


def test_json_data_of_structured_events_says_what_it_is(engine):
    engine.post("topics", {"name": "d-types"})
    plain = EVENT | {"datacontenttype": "text/plain", "data": "hello"}
    encoded = {name: value for name, value in EVENT.items() if name != "data"} | {"data_base64": "AAE="}
    engine.http("POST", "/api/v1/topics/d-types/events", EVENT, {"Content-Type": STRUCTURED})
    engine.http("POST", "/api/v1/topics/d-types/events", [EVENT, plain, encoded], {"Content-Type": "application/cloudevents-batch+json"})
    headers = [{one["name"]: one["value"] for one in record["headers"]} for record in engine.get("topics/d-types/records")["data"]]
    assert [one.get("content-type") for one in headers] == ["application/json", "application/json", "text/plain", None]
