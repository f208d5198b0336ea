# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""The command line: output formats, dry runs, completion, exit codes, what goes where."""

import contextlib
import json
import os
import pty
import shutil
import signal
import subprocess

import pytest
import yaml

from harness import PROGRAM, free_port, parent, until


@pytest.fixture(scope="module")
def filled(shared):
    """An engine with something of every kind."""
    view = shared.directory / "renders"
    view.mkdir()
    shared.cli("views", "create", "renders", "--path", view, "--tags", "film,2026", "--description", "frames")
    shared.cli(
        "triggers",
        "create",
        "element",
        "-n",
        "made",
        "-s",
        "renders",
        "--events",
        "ObjectCreated:*,ObjectRemoved:*",
        "--name-suffix",
        ".exr",
    )
    shared.cli("secrets", "create", "-f", "-", input="name: db\nentries:\n  - {key: password, value: geheim123}\n")
    shared.function(
        "take",
        """
        def handler(ctx, event):
            ctx.logger.info("took %s", event.object_key)
            ctx.tables["taken"].upsert({"path": event.object_key, "n": 1.5}, key=["path"])
        """,
    )
    shared.pipeline("flow", {"take": {}}, [{"source": "made", "destination": "take"}])
    (view / "a.exr").write_text("x")
    until(lambda: shared.column("taken", "path"), "a row")
    return shared


NOUNS = {
    "views": "renders",
    "triggers": "made",
    "functions": "take",
    "pipelines": "flow",
    "topics": "events",
    "secrets": "db",
}


@pytest.mark.parametrize(("noun", "name"), NOUNS.items())
def test_every_noun_prints_json_yaml_and_text(filled, noun, name):
    listed = filled.ask(noun, "list")
    assert set(listed) == {"data", "pagination"} and name in [one["name"] for one in listed["data"]]
    assert yaml.safe_load(filled.cli(noun, "list", "-o", "yaml")) == json.loads(filled.cli(noun, "list", "-o", "json"))
    shown = filled.ask(noun, "get", name)
    assert shown["name"] == name and shown["guid"] and shown["vrn"]
    assert yaml.safe_load(filled.cli(noun, "get", name, "-o", "yaml"))["guid"] == shown["guid"]
    text = filled.cli(noun, "get", name)
    assert name in text and shown["guid"] in text and "\x1b" not in text
    # Singular, options in front, the variable for the format.
    assert json.loads(filled.cli("-o", "json", noun.removesuffix("s"), "get", name))["guid"] == shown["guid"]
    assert json.loads(filled.run(noun, "get", name, MARTLET_OUTPUT="json").stdout)["guid"] == shown["guid"]
    assert name in filled.cli(noun, "list")


def test_what_get_prints_can_be_sent_back(filled):
    for noun, name in NOUNS.items():
        if noun in ("secrets", "pipelines"):
            continue
        document = filled.directory / "again.yaml"
        document.write_text(filled.cli(noun, "get", name, "-o", "yaml"))
        before = filled.get(f"{noun}/{name}")
        done = filled.run(noun, "update", name, "-f", document)
        assert done.returncode == 0, (noun, done.stderr)
        after = filled.get(f"{noun}/{name}")
        assert {key: value for key, value in after.items() if key != "updated_at"} == {
            key: value for key, value in before.items() if key != "updated_at"
        }
    manifest = filled.directory / "manifest.yaml"
    manifest.write_text(filled.cli("pipelines", "get", "flow", "--manifest", "-o", "yaml"))
    filled.cli("pipelines", "update", "flow", "--config", manifest)
    assert filled.get("pipelines/flow")["last_revision_number"] == 1, "the same manifest is no new revision"


@pytest.mark.parametrize(
    "arguments",
    [
        ("views", "create", "w", "--path", "/tmp"), ("views", "delete", "renders"),
        ("triggers", "create", "schedule", "-n", "t", "--cron-schedule", "* * * * *"),
        ("pipelines", "deploy", "flow"), ("pipelines", "undeploy", "flow"), ("pipelines", "pause", "flow"),
        ("pipelines", "delete", "flow"), ("topics", "create", "t"),
        ("topics", "publish", "events", "--data", "1"), ("functions", "delete", "take"), ("tables", "delete", "taken"),
        ("secrets", "delete", "db"),
        ("pipelines", "replay", "flow", "--from", "0"),
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)  # fmt: skip
def test_a_dry_run_sends_nothing(filled, arguments):
    def state():
        # The engine's own tables grow by themselves.
        tables = [table for table in filled.items("tables?limit=1000") if not table["name"].startswith("system.")]
        paths = ["views", "triggers", "pipelines", "topics", "functions", "secrets", "topics/events/partitions"]
        return [tables] + [filled.get(path) for path in paths]

    before = state()
    said = filled.cli(*arguments, "--dry-run")
    assert said.startswith("[DRY RUN] Would send "), said
    assert any(method in said.split("\n")[0] for method in ("POST /", "PUT /", "DELETE /")), said
    assert state() == before
    assert filled.run(*arguments, "--dry-run", "--server", "http://127.0.0.1:1").returncode == 0, "it needs no engine"


def test_secret_values_are_never_shown(filled):
    document = "name: other\nentries:\n  - {key: password, value: streng-geheim}\n"
    said = filled.run("secrets", "create", "-f", "-", "--dry-run", "-v", "-v", input=document)
    assert said.returncode == 0 and "streng-geheim" not in said.stdout + said.stderr
    said = filled.run("secrets", "create", "-f", "-", "-v", "-v", input=document)
    assert said.returncode == 0 and "streng-geheim" not in said.stdout + said.stderr
    for arguments in (
        ("secrets", "get", "db", "-o", "json"),
        ("secrets", "list", "-o", "yaml"),
        ("secrets", "get", "other"),
    ):
        assert "geheim" not in filled.cli(*arguments)
    assert "geheim" not in filled.log_tail(10**6)


def test_sql_prints_table_json_and_csv(filled):
    statement = "select path, n, null as note, 'a,\"b\"' as quoted, [1, 2] as list from taken"
    assert filled.ask("sql", statement) == [
        {"path": "a.exr", "n": 1.5, "note": None, "quoted": 'a,"b"', "list": [1, 2]}
    ]
    assert filled.cli("sql", statement, "-o", "csv").splitlines() == [
        "path,n,note,quoted,list",
        'a.exr,1.5,,"a,""b""","[1,2]"',
    ]
    assert "a.exr" in filled.cli("sql", statement)
    assert filled.ask("sql", "select ? as a, ? as b", "-p", "1", "-p", "text") == [{"a": 1, "b": "text"}]
    assert json.loads(filled.cli("sql", "-", "-o", "json", input="select 1 as a")) == [{"a": 1}]
    limited = filled.run("sql", "select * from range(100)", "--limit", "5", "-o", "json")
    assert len(json.loads(limited.stdout)) == 5 and "5" in limited.stderr
    slow = filled.run("sql", "select count(*) from range(100000000000) a, range(1000) b", "--timeout", "1")
    assert slow.returncode == 8 and "error: " in slow.stderr


def test_tables_are_exported(filled):
    import pyarrow.parquet

    for format in ("parquet", "csv"):
        target = filled.directory / f"taken.{format}"
        filled.cli("tables", "export", "taken", "--format", format, "--file", target)
        if format == "parquet":
            assert pyarrow.parquet.read_table(target).to_pylist() == [{"path": "a.exr", "n": 1.5}]
        else:
            assert target.read_text().splitlines()[1].startswith("a.exr,1.5")
    assert filled.cli("tables", "export", "taken", "--format", "csv", "--file", "-").splitlines()[1].startswith("a.exr")


def test_tags_are_put_and_removed(filled):
    filled.cli("elements", "tag", "renders", "a.exr", "state=final", "by=ada")
    until(lambda: filled.items("views/renders/elements")[0]["tags"] == {"state": "final", "by": "ada"}, "the tags")
    assert os.getxattr(filled.directory / "renders/a.exr", "user.state") == b"final"
    filled.cli("elements", "untag", "renders", "a.exr", "state")
    until(lambda: filled.items("views/renders/elements")[0]["tags"] == {"by": "ada"}, "the tag's removal")
    assert "by" in filled.cli("elements", "list", "renders")


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_completion_loads_in_bash_and_completes(filled):
    script = filled.directory / "completion.bash"
    script.write_text(filled.cli("completion", "bash"))
    code = f"""
    set -e
    source {script}
    complete -p martlet >/dev/null
    function="$(complete -p martlet | sed 's/.*-F \\([^ ]*\\).*/\\1/')"
    words() {{
      COMP_WORDS=("$@"); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMP_LINE="$*"; COMP_POINT=${{#COMP_LINE}}; COMPREPLY=()
      "$function" martlet "${{COMP_WORDS[COMP_CWORD]}}" "${{COMP_WORDS[COMP_CWORD-1]}}" || true
      printf '%s\\n' "${{COMPREPLY[@]}}"
    }}
    echo "first: $(words martlet pipe | tr '\\n' ' ')"
    echo "second: $(words martlet pipelines '' | tr '\\n' ' ')"
    echo "name: $(words martlet views get '' | tr '\\n' ' ')"
    """
    environment = filled.environment | {
        "MARTLET_SERVER": f"http://127.0.0.1:{filled.port}",
        "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}",
    }
    done = subprocess.run(["bash", "--norc", "-c", code], capture_output=True, text=True, env=environment, timeout=30)
    assert done.returncode == 0, done.stderr
    said = dict(line.split(": ", 1) for line in done.stdout.splitlines() if ": " in line)
    assert "pipelines" in said["first"] and "deploy" in said["second"], done.stdout
    assert "renders" in said["name"], done.stdout


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_completion_scripts_of_other_shells(filled, shell):
    script = filled.cli("completion", shell)
    assert "martlet" in script and "pipelines" in script
    if shutil.which(shell):
        assert subprocess.run([shell, "-n"], input=script, text=True, capture_output=True).returncode == 0


def test_every_command_explains_itself(filled):
    done = filled.run("doc", "--output-dir", filled.directory / "reference")
    assert done.returncode == 0, done.stderr
    pages = list((filled.directory / "reference").glob("*.md"))
    assert len(pages) > 10
    for noun in ("pipelines", "dead-letters", "sql"):
        assert filled.run(noun, "--help").returncode == 0


def test_errors_leave_standard_output_empty_and_silence_keeps_them(filled):
    done = filled.run("views", "get", "nix", "--silent", "-o", "json")
    assert done.returncode == 3 and done.stdout == "" and "nix" in done.stderr
    quiet = filled.run("pipelines", "deploy", "flow", "--silent")
    assert quiet.returncode == 0 and quiet.stderr == ""


def test_a_reader_that_goes_away_is_no_crash(filled):
    command = (
        f"'{PROGRAM}' sql 'select * from range(1000000)' --limit 1000000 -o csv | head -1; echo ${{PIPESTATUS[0]}}"
    )
    environment = filled.environment | {"MARTLET_SERVER": f"http://127.0.0.1:{filled.port}"}
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment, timeout=60)
    assert done.stdout.splitlines() == ["range", "141"] and done.stderr == ""


def test_colours_only_on_a_terminal(filled):
    environment = {name: value for name, value in filled.environment.items() if name != "NO_COLOR"}
    environment |= {"MARTLET_SERVER": f"http://127.0.0.1:{filled.port}", "TERM": "xterm-256color"}

    def on_terminal(**more) -> bytes:
        main, other = pty.openpty()
        subprocess.run(
            [PROGRAM, "pipelines", "list"],
            stdin=subprocess.DEVNULL,
            stdout=other,
            stderr=other,
            env=environment | more,
            timeout=30,
        )
        os.close(other)
        said = b""
        try:
            while chunk := os.read(main, 65536):
                said += chunk
        except OSError:
            pass
        os.close(main)
        return said

    assert b"\x1b[" in on_terminal()
    assert b"\x1b[" not in on_terminal(NO_COLOR="1") and b"\x1b[" not in on_terminal(TERM="dumb")
    assert (
        "\x1b"
        not in subprocess.run([PROGRAM, "pipelines", "list"], capture_output=True, text=True, env=environment).stdout
    )


def test_settings_come_from_flags_then_variables_then_the_file(filled):
    file = filled.directory / "config.toml"
    wrong, right = "http://127.0.0.1:1", f"http://127.0.0.1:{filled.port}"
    assert filled.run("config", "init", MARTLET_CONFIG=str(file)).returncode == 0
    assert file.stat().st_mode & 0o777 == 0o600
    assert filled.run("config", "set", "--server", right, MARTLET_CONFIG=str(file)).returncode == 0
    environment = {name: value for name, value in filled.environment.items()} | {"MARTLET_CONFIG": str(file)}
    assert subprocess.run([PROGRAM, "views", "list"], env=environment, capture_output=True).returncode == 0
    assert (
        subprocess.run(
            [PROGRAM, "views", "list"], env=environment | {"MARTLET_SERVER": wrong}, capture_output=True
        ).returncode
        == 5
    )
    assert (
        subprocess.run(
            [PROGRAM, "views", "list", "--server", right],
            env=environment | {"MARTLET_SERVER": wrong},
            capture_output=True,
        ).returncode
        == 0
    )
    shown = subprocess.run([PROGRAM, "config", "view"], env=environment, capture_output=True, text=True).stdout
    assert right in shown and str(file) in shown


@pytest.fixture
def workshop(filled, tmp_path):
    """Runs commands in a folder of its own."""

    def run(*words) -> subprocess.CompletedProcess:
        environment = filled.environment | {"MARTLET_SERVER": f"http://127.0.0.1:{filled.port}"}
        command = [PROGRAM, *map(str, words)]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)

    run.folder, run.environment = tmp_path, filled.environment
    return run


def test_a_function_is_scaffolded_run_locally_and_invoked(workshop):
    assert workshop("functions", "init", "python-pip", "hello").returncode == 0
    folder = workshop.folder / "hello"
    wanted = {"main.py", "requirements.txt", "Aptfile", "customDeps", "README.md", "config.yaml", "cloudevent.yaml"}
    assert wanted <= {path.name for path in folder.iterdir()}
    before = (folder / "main.py").read_text()
    again = workshop("functions", "init", "python-pip", "hello")
    assert again.returncode != 0 and "hello" in again.stderr and (folder / "main.py").read_text() == before
    (folder / "main.py").write_text(
        "def handler(ctx, event):\n    return {'id': event.id, 'word': ctx.secrets['s']['k']}\n"
    )
    (folder / "config.yaml").write_text("envs: {A: b}\nsecrets: {s: {k: hidden}}\n")
    port = free_port()
    with open(workshop.folder / "localrun.log", "w") as log:
        command = [PROGRAM, "functions", "localrun", "hello", "-p", str(port)]
        local = subprocess.Popen(command, cwd=workshop.folder, env=workshop.environment, stdout=log, stderr=log)
    children = []
    try:
        url = f"http://127.0.0.1:{port}/"
        invoked = until(
            lambda: (done := workshop("functions", "invoke", "-g", "-u", url)).returncode == 0 and done, "an answer", 20
        )
        assert "sent successfully" in invoked.stdout, invoked
        sent = workshop("functions", "invoke", "-e", folder / "cloudevent.yaml", "-u", url)
        assert sent.returncode == 0, sent.stderr
        # What it returns goes to the log, as there is no next function.
        until(lambda: (workshop.folder / "localrun.log").read_text().count("hidden") >= 2, "what it returned", 5)
        children = [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and parent(int(pid)) == local.pid]
        local.terminate()
        local.wait(10)
        refused = workshop("functions", "invoke", "-g", "-u", url)
        assert refused.returncode == 5 and "error: " in refused.stderr, "it goes on after SIGTERM"
    finally:
        for pid in (local.pid, *children):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        local.wait()


def test_an_update_after_a_build_makes_one_revision(workshop):
    assert workshop("functions", "init", "python-pip", "again").returncode == 0
    digests = [json.loads(workshop("functions", "build", "again", "-o", "json").stdout)["digest"] for _ in range(2)]
    assert digests[0] == digests[1]
    created = workshop("functions", "create", "again", "--publish", "-o", "json")
    assert created.returncode == 0, created.stderr
    for change, revision in (("", 1), ("\n# changed\n", 2), ("", 2)):
        with open(workshop.folder / "again/main.py", "a") as file:
            file.write(change)
        assert workshop("functions", "build", "again").returncode == 0
        updated = workshop("functions", "update", "again", "-o", "json")
        assert updated.returncode == 0, updated.stderr
        assert json.loads(updated.stdout)["last_revision_number"] == revision


def test_nothing_is_deleted_unasked(filled):
    """Without a terminal there is nobody to ask: `--force` has to agree."""
    refused = filled.run("views", "delete", "renders", input="y\n")
    assert refused.returncode == 2 and "--force" in refused.stderr, refused
    assert filled.get("views/renders")["name"] == "renders"
