# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""What commands for topics and groups say and refuse, and an engine without Python."""

import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time

import pytest
from harness import PROGRAM, until
from kafka_security import Certificates


@pytest.fixture(scope="module")
def engine(shared):
    return shared


def test_lines_are_taken_as_they_are(engine):
    engine.post("topics", {"name": "t-lines"})
    engine.cli("topics", "produce", "t-lines", input="a\r\nb\n\nc\r")
    assert [record["value"] for record in engine.get("topics/t-lines/records")["data"]] == ["a\r", "b", "", "c\r"]


def test_a_refused_record_is_named_by_its_line(engine):
    engine.post("topics", {"name": "t-place"})
    lines = [json.dumps({"value": f"{number}"}) for number in range(2000)]
    lines[1499] = json.dumps({"value": "x", "partition": 9})
    done = engine.run("topics", "produce", "t-place", "--json", input="\n".join(lines))
    assert done.returncode != 0 and "line 1500" in done.stderr and "records[" not in done.stderr, done
    assert "1000 records were written" in done.stderr
    events = ['{"data":1}'] * 3 + ['{"id":""}']
    done = engine.run("topics", "produce", "t-place", "--cloudevents", input="\n".join(events))
    assert done.returncode != 0 and "line 4" in done.stderr, done


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["topics", "create", "p2", "--name", "p3"], "given twice"),
        (["topics", "create", "p4", "--config", "retention.ms=5000", "--retention", "3d"], "same setting"),
        (["topics", "create", "p5", "--partitions", "-1"], "1 to 10000"),
        (["topics", "create", "p6", "--retention", "0"], "forever"),
        (["topics", "create"], "the name is missing"),
        (["topics", "creat", "p7"], "did you mean: martlet topics create"),
        (["topisc", "list"], "did you mean: martlet topics"),
        (["topics", "create", "p8", "--config", "nonsense=1"], "martlet topics configs"),
    ],
)
def test_refusals(engine, words, says):
    done = engine.run(*words)
    assert done.returncode != 0 and says in done.stderr, done
    assert engine.http("GET", "/api/v1/topics/p3").status == 404


def test_a_setting_given_twice_is_refused_over_rest(engine):
    body = {"name": "t-twice", "retention_milliseconds": 5000, "configs": {"retention.ms": "6000"}}
    assert "retention.ms" in engine.http("POST", "/api/v1/topics", body).problem(422)["detail"]


def test_settings_sizes_and_deleting_records(engine):
    engine.post("topics", {"name": "t-shown", "configs": {"segment.ms": "60000"}})
    engine.cli("topics", "produce", "t-shown", input="a\nb\nc\n")
    settings = {one["name"]: one for one in engine.ask("topics", "configs", "t-shown")["data"]}
    assert settings["segment.ms"]["value"] == "60000" and settings["segment.ms"]["is_set"]
    assert settings["min.insync.replicas"]["value"] == "1" and not settings["min.insync.replicas"]["is_set"]
    assert engine.cli("topics", "configs", "t-shown", "--set").count("\n") == 2
    assert engine.ask("topics", "get", "t-shown")["partition_offsets"][0]["size_bytes"] > 0
    done = engine.run("topics", "delete-records", "t-shown", "--partition", "0", "--before", "2")
    assert done.returncode != 0 and "--force" in done.stderr
    engine.cli("topics", "delete-records", "t-shown", "--partition", "0", "--before", "2", "--force")
    assert [record["value"] for record in engine.get("topics/t-shown/records")["data"]] == ["c"]
    engine.http("DELETE", "/api/v1/topics/t-shown/records?partition=0&before=99").problem(422)
    engine.http("DELETE", "/api/v1/topics/__system.logs/records?partition=0&before=0").problem(403)


def test_the_engines_own_topics_are_listed_when_asked_for(engine):
    engine.post("topics", {"name": "t-listed"})
    shown = {topic["name"] for topic in engine.ask("topics", "list")["data"]}
    assert "t-listed" in shown and not any(name.startswith("__") for name in shown)
    assert "__system.logs" in {topic["name"] for topic in engine.ask("topics", "list", "--all")["data"]}
    limited = engine.ask("topics", "list", "-l", "2")["data"]
    assert len(limited) == 2 and not any(topic["name"].startswith("__") for topic in limited)


def test_a_reset_beyond_the_end_says_so(engine):
    engine.post("topics", {"name": "t-reset"})
    engine.cli("topics", "produce", "t-reset", input="a\nb\n")
    done = engine.run("groups", "reset", "t-readers", "--offset", "9999", "--topic", "t-reset")
    assert done.returncode == 0 and "9999 lies behind the last offset of partition 0 of t-reset, which is 2" in done.stderr
    done = engine.run("groups", "reset", "t-readers", "--by", "-9", "--topic", "t-reset")
    assert "-7 lies before the first offset" in done.stderr


def test_groups_are_listed_with_their_lag_in_records_and_time_and_deleted(engine):
    """Records of given ages: the lag in time is the age of the oldest one that is not read."""
    topic, group = "t-lagging", "t-laggards"
    engine.post("topics", {"name": topic, "partitions": 2})
    begun = int(time.time() * 1000)
    ages = {0: [7200, 3600, 90], 1: [5400]}
    records = [
        {"partition": partition, "value": f"{age}", "timestamp": begun - age * 1000} for partition, some in ages.items() for age in some
    ]
    engine.post(f"topics/{topic}/records", {"records": records})
    engine.cli("groups", "reset", group, "--to", "earliest", "--topic", topic)

    def listed():
        [found] = [one for one in engine.ask("groups", "list", "--name", group)["data"] if one["name"] == group]
        return found

    def is_age(seconds, age):
        return age <= seconds <= age + (time.time() * 1000 - begun) / 1000 + 1

    def spoken(age):
        """What may be shown of it by now."""
        later = range(age, age + int(time.time() - begun / 1000) + 2)
        return {f"{one // 3600} h {one // 60 % 60} min" if one >= 3600 else f"{one // 60} min {one % 60} s" for one in later}

    def row(text, first):
        """The cells of a line of a table."""
        line = next(line for line in text.splitlines() if line.startswith(first))
        return [cell for cell in re.split(r"\s{2,}", line.strip())]

    found = listed()
    assert (found["lag_records"], found["member_count"], found["state"], found["topics"]) == (4, 0, "Empty", [topic])
    assert is_age(found["lag_seconds"], 7200), found
    text = engine.cli("groups", "list")
    assert re.split(r"\s{2,}", text.splitlines()[0].strip()) == ["Group", "State", "Members", "Lag", "Behind", "Topics"]
    lag, behind, topics = row(text, group)[3:]
    assert (lag, topics) == ("4", topic) and behind in spoken(7200), behind
    # Partition by partition, as far as the group has come.
    for offset, lag, age in (("1", 2, 3600), ("2", 1, 90), ("3", 0, 0)):
        engine.cli("groups", "reset", group, "--offset", offset, "--topic", topic, "--partition", "0")
        shown = engine.ask("groups", "get", group)
        first, second = shown["partitions"]
        assert (first["partition"], first["lag_records"], second["lag_records"]) == (0, lag, 1)
        assert is_age(first["lag_seconds"], age) if lag else first["lag_seconds"] == 0
        assert is_age(second["lag_seconds"], 5400) and is_age(shown["lag_seconds"], 5400), "the oldest of all partitions"
        lines = [re.split(r"\s{2,}", line.strip()) for line in engine.cli("groups", "get", group).splitlines() if line.startswith(topic)]
        assert lines[0][:5] == [topic, "0", offset, "3", str(lag)] and lines[0][5] in (spoken(age) if lag else {"-"}), lines
        assert lines[1][:5] == [topic, "1", "0", "1", "1"] and lines[1][5] in spoken(5400), lines
    shown = engine.cli("groups", "get", group)
    assert any(f"1 record, the oldest {one} old" in shown for one in spoken(5400)), shown
    engine.cli("groups", "reset", group, "--to", "latest")
    assert listed()["lag_records"] == 0 and listed()["lag_seconds"] == 0
    assert row(engine.cli("groups", "list"), group)[3:] == ["0", "-", topic]
    # Deleted it is with --force alone where nobody can be asked, and not while it has members.
    done = engine.run("groups", "delete", group)
    assert done.returncode != 0 and "--force" in done.stderr, done
    engine.cli("groups", "reset", "t-other-laggards", "--to", "latest", "--topic", topic)
    engine.cli("groups", "delete", "--force", group, "t-other-laggards")
    assert not {group, "t-other-laggards"} & {one["name"] for one in engine.ask("groups", "list")["data"]}
    done = engine.run("groups", "get", group)
    assert done.returncode == 3 and "groups list" in done.stderr, done
    assert engine.run("groups", "delete", "--force", group).returncode == 3
    done = engine.run("groups", "delete", "--force", "__table.none")
    assert done.returncode != 0 and "engine's own" in done.stderr, done


def test_a_group_with_a_reader_is_listed_and_not_deleted(engine):
    engine.post("topics", {"name": "t-read"})
    reader = subprocess.Popen(
        [PROGRAM, "topics", "consume", "t-read", "--group", "t-reading"], stdout=subprocess.PIPE, text=True,
        env=engine.environment | {"MARTLET_SERVER": f"http://127.0.0.1:{engine.port}"},
    )  # fmt: skip
    try:
        # A member from when it asks, Stable when it has what it is to read.
        until(lambda: any(one["name"] == "t-reading" and one["state"] == "Stable" for one in engine.ask("groups", "list")["data"]), "the reader is a member")
        shown = engine.ask("groups", "get", "t-reading")
        assert [one["partition_count"] for one in shown["members"]] == [1], shown
        assert "martlet-grpc" in engine.cli("groups", "get", "t-reading")
        done = engine.run("groups", "delete", "--force", "t-reading")
        assert done.returncode == 7 and "has members" in done.stderr, done
    finally:
        reader.terminate()
        reader.wait(30)
    until(lambda: engine.get("groups/t-reading")["member_count"] == 0, "the reader has left")
    engine.cli("groups", "delete", "--force", "t-reading")


def test_groups_are_completed(engine):
    engine.post("topics", {"name": "t-complete"})
    engine.cli("groups", "reset", "t-completed", "--to", "earliest", "--topic", "t-complete")
    script = engine.directory / "completion.bash"
    script.write_text(engine.cli("completion", "bash"))
    (engine.directory / "martlet").symlink_to(PROGRAM)
    code = f"""
    source {script}
    function="$(complete -p martlet | sed 's/.*-F \\([^ ]*\\).*/\\1/')"
    COMP_WORDS=(martlet groups get t-comp); COMP_CWORD=3; COMP_LINE="martlet groups get t-comp"; COMP_POINT=${{#COMP_LINE}}; COMPREPLY=()
    "$function" martlet t-comp get
    printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    environment = engine.environment | {
        "MARTLET_SERVER": f"http://127.0.0.1:{engine.port}", "PATH": f"{engine.directory}:{os.environ['PATH']}",
    }  # fmt: skip
    done = subprocess.run(["bash", "--norc", "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    assert "t-completed" in done.stdout, done


def test_errors_of_tls_name_no_source_files(engine, tmp_path):
    """A server that speaks no TLS, and one whose certificate nobody knows."""
    certificates = Certificates(tmp_path)
    certificate, key = certificates.make("server", "/CN=nobody", "extendedKeyUsage=serverAuth")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def serve(listener, speaks):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                try:
                    if speaks:
                        context.wrap_socket(connection, server_side=True).close()
                    else:
                        connection.recv(1)
                        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                except OSError:
                    pass

    for speaks in [True, False]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            threading.Thread(target=serve, args=(listener, speaks), daemon=True).start()
            done = engine.run("topics", "list", "--server", f"https://127.0.0.1:{listener.getsockname()[1]}")
            assert done.returncode != 0 and "cannot reach" in done.stderr, done
            assert "/" not in done.stderr.replace("https://", "").replace("SSL/TLS", "") or ".cc" not in done.stderr, done
            assert "checkouts" not in done.stderr, done


# Without Python


def library() -> str:
    import duckdb

    return next(
        str(path) for folder in [os.path.dirname(duckdb.__file__), os.path.dirname(os.path.dirname(duckdb.__file__))]
        for path in sorted(os.scandir(folder), key=lambda entry: entry.name) if path.name.endswith(".so") and "duckdb" in path.name
        for path in [path.path]
    )  # fmt: skip


def test_an_engine_without_python_serves_topics_and_says_what_is_missing(make_engine, tmp_path):
    """First with Python, so that there is a function; then without."""
    engine = make_engine()
    engine.start()
    source = engine.source("nopy-in")
    engine.function("nopy", "def handler(ctx, event):\n    return None\n")
    pipeline = engine.pipeline("nopy", {"nopy": {}}, [{"source": source.topic, "destination": "nopy"}])
    assert engine.get("engine").get("functions_obstacle") is None
    assert engine.stop() == 0
    engine.settings |= {
        "MARTLET_PYTHON_ENVIRONMENT": str(tmp_path / "none"), "MARTLET_DUCKDB_LIBRARY": library(),
    }  # fmt: skip
    mark = engine.log.stat().st_size
    engine.start()
    log = engine.log.read_text(errors="replace")[mark:]
    warnings = [line for line in log.splitlines() if " warning " in line and "functions cannot run: no Python environment" in line]
    assert len(warnings) == 1, log
    engine.post("topics", {"name": "nopy-topic"})
    engine.post("topics/nopy-topic/records", {"records": [{"value": "a"}]})
    assert engine.sql("select 1") == [[1]]
    said = engine.cli("engine", "status")
    assert "functions cannot run" in said and "MARTLET_PYTHON_ENVIRONMENT" in said
    done = engine.run("functions", "build", "other", "--target", engine.folder("other", "def handler(ctx, event):\n    return None\n"))
    assert done.returncode != 0 and "functions cannot run" in done.stderr, done
    # The function there is fails with the same reason, and its pipeline shows it.
    source.send_ids([1])
    until(lambda: "functions cannot run" in json.dumps([pipeline.show(), engine.items(f"pipelines/{pipeline.name}/deployments")]), "the reason is shown", 60)


def test_paths_that_were_searched_are_named_once(tmp_path):
    program = tmp_path / "bin" / "martlet"
    program.parent.mkdir()
    try:
        os.link(PROGRAM, program)
    except OSError:  # Another file system, or the same one mounted at two places.
        shutil.copy(PROGRAM, program)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MARTLET_") and name != "VIRTUAL_ENV"}
    process = subprocess.Popen(
        [program, "serve", "--data-dir", tmp_path / "data", "--port", "0"], cwd=tmp_path / "bin", text=True,
        env=kept | {"HOME": str(tmp_path), "MARTLET_DUCKDB_LIBRARY": library()}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "http://" in line:
                break
        text = "".join(lines)
        assert process.poll() is None, text
        line = next(line for line in lines if "functions cannot run" in line)
        assert line.count(str(program.parent / ".venv")) == 1, line
    finally:
        process.terminate()
        process.wait(60)
