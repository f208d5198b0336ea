# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""What the engine measures: exact counts through the API, the command line, drawings and Prometheus' own parsers."""

import csv
import io
import os
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from harness import until

BUILT_IN = {
    "dataengine.event.reception_latency": "Histogram",
    "dataengine.event.total": "Counter",
    "dataengine.function.invocations": "Counter",
    "dataengine.function.invoke_duration": "Histogram",
    "dataengine.function.errors": "Counter",
}
EVENTS = 300
FAILING = 3
OPENMETRICS = "application/openmetrics-text; version=1.0.0"

SOURCE = """
import time

def init(ctx):
    ctx.seen = ctx.counter("meter.seen", "events seen", "{event}")
    ctx.spent = ctx.histogram("meter.spent", "time spent", "ms")

def handler(ctx, event):
    ctx.seen.add(2, {"kind": event.data["kind"]})
    ctx.spent.record(event.data["spent"])
    if event.data["kind"] == "bad":
        raise ValueError("no luck")
    ctx.tables["measured"].upsert({"id": event.id}, key=["id"])
"""


def total(engine, name: str, **asked) -> float:
    """The whole of a metric over the last hour."""
    series = engine.get(f"metrics/query?{query(name, **asked)}")["series"]
    return sum(one.get("total", 0) for one in series)


def query(*names: str, **asked) -> str:
    return "&".join([f"name={name}" for name in names] + [f"{key}={value}" for key, value in asked.items()])


@pytest.fixture(scope="module")
def measured(shared):
    """An engine that has worked: some events, a few of which fail once and are then given up."""
    shared.function("meter", SOURCE)
    events = shared.source("meter-in")
    pipeline = shared.pipeline("meter", {"meter": {}}, [{"source": "meter-in", "destination": "meter", "retries": 1}])
    good = [events.event(f"good-{n}", {"kind": "good", "spent": n % 100}) for n in range(EVENTS - FAILING)]
    events.send(*good, *(events.event(f"bad-{n}", {"kind": "bad", "spent": 1000}) for n in range(FAILING)))
    pipeline.wait(60)
    assert len(shared.dead_letters("meter")) == FAILING
    attempts = EVENTS + FAILING
    until(lambda: total(shared, "dataengine.function.invocations") >= attempts, "the counts", 15, every=0.3)
    until(lambda: total(shared, "meter.seen") >= 2 * attempts, "the function's own counts", 15, every=0.3)
    return shared


def test_counts_are_exact(measured):
    attempts = EVENTS + FAILING
    assert total(measured, "dataengine.event.total", pipeline="meter") == EVENTS
    assert total(measured, "dataengine.function.invocations", function="meter") == attempts
    assert total(measured, "dataengine.function.errors", pipeline="meter") == 2 * FAILING
    assert total(measured, "martlet.deployment.retries") == FAILING
    assert total(measured, "martlet.deployment.dead_letters") == FAILING
    for name, wanted in (("dataengine.event.reception_latency", EVENTS), ("dataengine.function.invoke_duration", attempts)):
        assert total(measured, name, aggregation="count") == wanted
        low, middle, high = (total(measured, name, aggregation=one) for one in ("min", "p50", "max"))
        assert 0 <= low <= middle <= high < 60_000
    assert total(measured, "martlet.topic.appended_records", group_by="topic") >= EVENTS
    topics = measured.get(f"metrics/query?{query('martlet.topic.appended_records', group_by='topic', aggregation='sum')}")
    records = {one["group"]["topic"]: one["total"] for one in topics["series"]}
    assert records["meter-in"] == EVENTS and records["dead-letters"] == FAILING
    assert total(measured, "martlet.table.rows", aggregation="sum") == EVENTS - FAILING


def test_metrics_of_functions_are_kept_as_gains(measured):
    attempts = EVENTS + FAILING
    kinds = measured.get(f"metrics/query?{query('meter.seen', group_by='kind')}")["series"]
    assert {one["group"]["kind"]: one["total"] for one in kinds} == {"good": 2 * (EVENTS - FAILING), "bad": 4 * FAILING}
    assert total(measured, "meter.spent", aggregation="count") == attempts
    assert total(measured, "meter.spent", aggregation="sum") == sum(n % 100 for n in range(EVENTS - FAILING)) + 2000 * FAILING
    (named,) = [one for one in measured.items("metrics/names?function=meter&search=meter.spent")]
    assert named["type"] == "Histogram" and named["unit"] == "ms"


def test_names_and_types_are_those_of_the_reference(measured):
    names = {one["name"]: one for one in measured.ask("metrics", "names")["data"]}
    for name, kind in BUILT_IN.items():
        assert names[name]["type"] == kind and names[name]["series"] >= 1 and names[name]["description"]
        assert names[name]["unit"] == "ms" or kind == "Counter"
    assert "dataengine.event.total" in measured.cli("metrics", "names", "-t", "Counter", "-p", "meter")
    assert "latency" not in measured.cli("metrics", "names", "-t", "counter")


def test_groups_carry_the_reference_attributes(measured):
    for key, wanted in (("pipeline_name", "meter"), ("function_name", "meter"), ("function_deployment_name", "meter")):
        answer = measured.get(f"metrics/query?{query('dataengine.function.invocations', group_by=key)}")
        assert [one["group"] for one in answer["series"]] == [{key: wanted}]


def test_mixed_types_are_answered(measured):
    answer = measured.get(f"metrics/query?{query(*BUILT_IN, aggregation='p95')}")
    assert [one["name"] for one in answer["series"]] == list(BUILT_IN)
    assert answer["step_seconds"] == 60 and all(len(one["points"]) <= 61 for one in answer["series"])


def test_the_command_line_draws_and_lists(measured, tmp_path):
    drawn = measured.cli("metrics", "get", "-m", ",".join(BUILT_IN), "-g", "function_name", "-w", "30m")
    for name in BUILT_IN:
        assert name in drawn
    assert "meter" in drawn and "last" in drawn and "UTC" in drawn
    plain = measured.run("metrics", "get", "-m", "dataengine.event.total", LC_ALL="C")
    assert plain.returncode == 0 and all(ord(letter) < 128 for letter in plain.stdout)
    file = tmp_path / "chart.svg"
    measured.cli("metrics", "get", "-m", "dataengine.function.invoke_duration", "-g", "function_name", "--svg", file)
    root = ElementTree.parse(file).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    text = file.read_text()
    assert "dataengine.function.invoke_duration" in text and "<script" not in text and "http" not in text.replace(
        "http://www.w3.org/2000/svg", ""
    )
    rows = list(csv.DictReader(io.StringIO(measured.cli("metrics", "get", "-m", "dataengine.event.total", "-o", "csv"))))
    assert sum(float(row["value"] or 0) for row in rows) == EVENTS
    missing = measured.run("metrics", "get", "-m", "no.such.metric")
    assert missing.returncode == 3 and "there is no metric 'no.such.metric'" in missing.stderr
    assert measured.run("metrics", "get").returncode == 2
    refused = measured.run("metrics", "get", "-m", "a", "-g", "x'y")
    assert refused.returncode == 4 and "group_by" in refused.stderr


def samples(families) -> dict:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def check_exposition(found: dict) -> None:
    labels = (("function_deployment_name", "meter"), ("function_name", "meter"), ("pipeline_name", "meter"))
    assert found["dataengine_event_total", labels] == EVENTS
    assert found["dataengine_function_invocations_total", labels] == EVENTS + FAILING
    assert found["dataengine_function_errors_total", labels] == 2 * FAILING
    assert found["dataengine_function_invoke_duration_seconds_count", labels] == EVENTS + FAILING
    assert found["dataengine_event_reception_latency_seconds_count", labels] == EVENTS
    assert found["martlet_topic_appended_records_total", (("topic", "meter-in"),)] == EVENTS
    assert found["martlet_topic_end_offset", (("topic", "meter-in"),)] == EVENTS
    assert found["martlet_disk_free_bytes", ()] > 0 and found["martlet_process_memory_bytes", ()] > 1 << 20
    lags = [value for (name, _), value in found.items() if name == "martlet_group_lag"]
    assert lags and not any(lags)


def test_prometheus_parses_both_forms(measured):
    plain = measured.http("GET", "/metrics")
    assert plain.status == 200 and plain.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    check_exposition(samples(parse_text(plain.body.decode())))
    for line in plain.body.decode().splitlines():
        assert line.startswith("# ") or line.startswith(("martlet_", "dataengine_")), line
    modern = measured.http("GET", "/metrics", headers={"Accept": OPENMETRICS})
    assert modern.headers["Content-Type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    families = list(parse_openmetrics(modern.body.decode()))
    assert all(family.documentation for family in families)
    check_exposition(samples(families))


def test_promtool_has_nothing_to_say(measured):
    promtool = os.environ.get("PROMTOOL") or shutil.which("promtool")
    if not promtool:
        pytest.skip("promtool is not installed; Debian's package prometheus has it")
    text = measured.http("GET", "/metrics").body
    checked = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True)
    assert checked.returncode == 0 and not checked.stderr, checked.stderr.decode()


def test_scraping_needs_the_token(make_engine):
    engine = make_engine("guarded", settings={"MARTLET_TOKEN": "scrape-me"})
    engine.start()
    assert engine.http("GET", "/metrics").status == 200
    engine.token = None
    engine.http("GET", "/metrics").problem(401, "unauthenticated")
    assert engine.http("GET", "/metrics", headers={"Authorization": "Bearer wrong"}).status == 401


def test_counts_survive_a_restart(make_engine):
    engine = make_engine("restarted")
    engine.start()
    engine.function("again", "def handler(ctx, event):\n    pass\n")
    events = engine.source("again-in")
    pipeline = engine.pipeline("again", {"again": {}}, [{"source": "again-in", "destination": "again"}])
    for batch in (7, 5):
        events.send_ids(range(batch))
        pipeline.wait()
        assert engine.stop() == 0, engine.log_tail()
        engine.start()
    assert total(engine, "dataengine.function.invocations") == 12


def test_logs_are_newest_first_under_all_names(measured):
    said = [one["message"] for one in measured.ask("logs", "get", "meter", "--since", "1h", "--scope", "runtime")["data"]]
    same = [one["message"] for one in measured.ask("logs", "get", "meter", "--since", "1h", "--scope", "vast-runtime")["data"]]
    assert said == same and any("dead-lettered" in message for message in said)
    times = [one["time"] for one in measured.ask("logs", "get", "meter", "--since", "1h")["data"]]
    assert times == sorted(times, reverse=True) and len(times) > 1
    for name in ("CRITICAL", "FATAL", "critical"):
        assert measured.ask("logs", "get", "meter", "--since", "1h", "--severity", name)["data"] == []


def test_a_failed_hop_is_named(measured):
    (first, *_) = measured.ask("traces", "list", "meter", "--status", "ERROR", "--since", "1h")["data"]
    tree = measured.cli("traces", "get", first["trace_id"])
    assert "✗ function meter" in tree and "! ValueError: no luck" in tree and "Slowest:" in tree
    assert "Failed:" in tree and "◀ slowest" in tree


def test_the_page_lists_every_metric(measured):
    page = (Path(__file__).resolve().parents[2] / "docs/metrics.md").read_text()
    for one in measured.items("metrics/names"):
        if one["name"].startswith(("martlet.", "dataengine.")):
            row = next((line for line in page.splitlines() if line.startswith(f"| `{one['name']}`")), "")
            assert f"| {one['type']} |" in row, one
