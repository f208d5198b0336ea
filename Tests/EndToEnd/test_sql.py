# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""`martlet sql`: the shell under a real terminal, and statements from the command line and files."""

import csv
import json
import os
import re
import signal
import stat
import subprocess
from decimal import Decimal

import pexpect
import pytest
from harness import PROGRAM, until

ENDLESS = "select sum(a.range * b.range) from range(3000000000) a, range(1000) b"
# The prompt after everything before it was carried out: nothing follows it.
PROMPT = r"martlet> \x1b\[K\r\x1b\[9C$"


@pytest.fixture
def filled(engine):
    engine.cli(
        "sql", "--write",
        "create table words(word varchar primary key, uses bigint); insert into words select 'w' || range, range from range(100)",
    )  # fmt: skip
    return engine


class Shell:
    """`martlet sql` on a terminal of 24 lines and 80 columns."""

    def __init__(self, engine, *arguments, **environment):
        self.engine = engine
        self.child = pexpect.spawn(
            str(PROGRAM), ["sql", *arguments], dimensions=(24, 80), encoding="utf-8", timeout=30, cwd=str(engine.directory),
            env=engine.environment
            | {"MARTLET_SERVER": f"http://127.0.0.1:{engine.port}", "TERM": "xterm", "LANG": "C.UTF-8", "PATH": os.environ["PATH"]}
            | environment,
        )  # fmt: skip
        self.child.expect(PROMPT)

    def ask(self, line, prompt=PROMPT):
        """What the shell says to a line."""
        self.child.send(line + "\r")
        self.child.expect("\x1b\\[\\?2004l")
        self.child.expect(prompt)
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.child.before).replace("\r", "")

    def end(self):
        self.child.send("\x04")
        self.child.expect(pexpect.EOF)
        self.child.close()
        return self.child.exitstatus


def test_the_shell_draws_boxes_and_ends_with_ctrl_d(filled):
    shell = Shell(filled)
    said = shell.ask("select 1 as one, 'x' as text, null as none;")
    assert "┌─────┬──────┬──────┐\n│ one │ text │ none │\n" in said
    assert "│   1 │ x    │ NULL │" in said and "(1 row, " in said
    # A statement may have several lines.
    shell.child.send("select 2 as two\r")
    shell.child.expect(r"\.\.\.> ")
    assert "│   2 │" in shell.ask(", 3 as three;")
    assert "(1 row)" in (shell.ask(".timer off"), shell.ask("select 1;"))[1]
    wide = shell.ask("select repeat('x', 300) as a, repeat('y', 300) as b;")
    assert all(len(line) <= 80 for line in wide.splitlines()) and "…" in wide
    assert shell.end() == 0


@pytest.mark.parametrize("word", ["quit", "exit;", "QUIT", "\\q"])
def test_the_words_of_other_shells_end_it(filled, word):
    shell = Shell(filled)
    shell.child.send(word + "\r")
    shell.child.expect(pexpect.EOF)
    shell.child.close()
    assert shell.child.exitstatus == 0


def test_errors_show_the_place_and_the_shell_goes_on(filled):
    shell = Shell(filled)
    said = shell.ask("select nothere from words;")
    line, caret = re.search(r"\n( *LINE 1: .*)\n( *)\^", said).groups()
    assert line.index("nothere") == len(caret)
    assert "--write" in shell.ask("delete from words;")
    assert "no command .wrong" in shell.ask(".wrong")
    assert "│ 42 │" in shell.ask("select 42 as n;")
    assert shell.end() == 0


def test_dot_commands(filled):
    shell = Shell(filled)
    assert re.search(r"│ words +│ +100 │ +2 │", shell.ask(".tables"))
    assert "no tables" in shell.ask(".tables nope")
    assert "CREATE TABLE words (\n    word VARCHAR,\n    uses BIGINT,\n    PRIMARY KEY (word)\n);" in shell.ask(".schema words")
    columns = shell.ask(".columns words")
    assert "uses" in columns and "BIGINT" in columns
    assert ".timer on|off" in shell.ask(".help")
    plan = shell.ask(".explain select * from words where uses > 5")
    assert "words" in plan and "│ explain_key" not in plan
    assert "Total Time" in shell.ask(".explain analyze select count(*) from words")
    shell.ask(".mode json")
    assert json.loads(shell.ask("select 1 as a;")) == [{"a": 1}]
    shell.ask(".mode line")
    assert "uses = 5" in shell.ask("from words where uses = 5;")
    shell.ask(".mode csv")
    shell.ask(".output rows.csv")
    shell.ask("from words order by uses limit 2;")
    shell.ask(".output")
    assert (filled.directory / "rows.csv").read_text().splitlines() == ["word,uses", "w0,0", "w1,1"]
    (filled.directory / "more.sql").write_text("select 1 as a; -- one\nselect 2 as b")
    assert shell.ask(".read more.sql").split() == ["a", "1", "b", "2"]
    shell.child.send(".quit\r")
    shell.child.expect(pexpect.EOF)


def test_ctrl_c_cancels_the_statement_in_the_engine_and_not_the_shell(filled):
    shell = Shell(filled)
    shell.child.send("half a line")
    shell.child.send("\x03")
    shell.child.expect(r"\^C")
    shell.child.expect(PROMPT)
    shell.child.send(ENDLESS + ";\r")
    shell.child.expect(r"rows|running")  # the progress bar
    active = until(lambda: filled.items("statements?active=true"), "it runs")
    shell.child.sendintr()
    shell.child.expect("cancelled")
    shell.child.expect(PROMPT)
    assert filled.get(f"statements/{active[0]['id']}")["state"] == "cancelled"
    assert "│ 7 │" in shell.ask("select 7 as n;")
    assert shell.end() == 0


def test_names_are_completed(filled):
    shell = Shell(filled)
    shell.child.send("select use\t")
    shell.child.expect("uses")
    shell.child.send("from wor\t")
    shell.child.expect("words")
    assert "│   99 │" in shell.ask("where uses = 99;")
    shell.child.send(".sch\t")
    shell.child.expect(".schema")
    assert "CREATE TABLE" in shell.ask("words")
    assert shell.end() == 0


def test_history_outlives_the_shell_and_is_private(filled):
    state = filled.directory / "state"
    shell = Shell(filled, XDG_STATE_HOME=str(state))
    shell.ask("select 'first' as a;")
    shell.ask("select 'second' as a;")
    shell.ask(" select 'kept out';")
    assert shell.end() == 0
    path = state / "martlet/sql_history"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        "select 'first' as a;", "select 'second' as a;",
    ]  # fmt: skip
    shell = Shell(filled, XDG_STATE_HOME=str(state))
    shell.child.send("\x1b[A\x1b[A")
    shell.child.expect("first")
    assert "│ first │" in shell.ask("")
    shell.child.send("\x12second")
    shell.child.expect("search: second")
    assert "│ second │" in shell.ask("")
    assert shell.end() == 0


def test_long_results_go_through_the_pager(filled):
    shell = Shell(filled, PAGER="cat > paged.txt")
    shell.ask("from words;")
    paged = (filled.directory / "paged.txt").read_text()
    assert "w99" in paged and paged.count("\n") == 104
    shell.ask("from words limit 3;")
    assert (filled.directory / "paged.txt").read_text() == paged
    assert shell.end() == 0


def test_writing_takes_the_flag(filled):
    done = filled.run("sql", "delete from words where uses > 4")
    assert done.returncode == 4 and "--write" in done.stderr
    shell = Shell(filled, "--write")
    assert "(95 rows changed" in shell.ask("delete from words where uses > 4;")
    assert "(done" in shell.ask("create table made(a int);")
    assert "made" in shell.ask(".tables")
    assert shell.end() == 0
    assert filled.ask("sql", "select count(*) as n from words") == [{"n": 5}]


def test_one_shot_forms(filled):
    assert filled.cli("sql", "select 1 as a, null as b") == "a  b\n1  NULL\n"
    assert filled.cli("sql", "--format", "csv", "from words order by uses limit 1") == "word,uses\r\nw0,0\r\n"
    assert filled.cli("sql", "--format", "line", "select 1 as a, 'x' as long") == "-- row 1\n   a = 1\nlong = x\n"
    (filled.directory / "two.sql").write_text("select 1 as a;\n\n-- nothing\nselect 2 as b;\n")
    assert filled.cli("sql", "-f", "two.sql").split() == ["a", "1", "b", "2"]
    assert filled.cli("sql", "-f", "-", input="select 3 as c") == "c\n3\n"
    plan = filled.cli("sql", "--explain", "from words where uses > 3")
    assert "words" in plan and "explain_key" not in plan
    limited = filled.run("sql", "from words", "--max-rows", "5", "-o", "json")
    assert len(json.loads(limited.stdout)) == 5 and "first 5 rows" in limited.stderr
    assert filled.cli("sql", "--format", "csv", "select range from range(50000)").count("\n") == 50_001
    slow = filled.run("sql", ENDLESS, "--timeout", "1")
    assert slow.returncode == 8 and "time limit" in slow.stderr
    # Nothing but the rows where nobody looks.
    quiet = filled.run("sql", "select count(*) as n from range(200000000) where range % 7 = 3")
    assert quiet.stderr == "" and quiet.stdout.split()[0] == "n"
    first = filled.run("sql", "select 1 as a; select nothere; select 3 as c")
    assert first.returncode == 4 and first.stdout == "a\n1\n"
    sent = filled.run("sql", "from words", "--as-of", "words=7", "--max-staleness", "5s", "--dry-run").stdout
    assert json.loads(sent.split("\n", 1)[1]) == {"sql": "from words", "max_staleness": 5.0, "as_of": {"words": "7"}}
    for wrong in (("--format", "xml"), ("--max-staleness", "soon"), ("--as-of", "words")):
        assert filled.run("sql", "from words", *wrong).returncode == 2


def test_ctrl_c_of_a_one_shot_cancels_in_the_engine(filled):
    process = subprocess.Popen(
        [PROGRAM, "sql", ENDLESS], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=filled.environment | {"MARTLET_SERVER": f"http://127.0.0.1:{filled.port}"},
    )  # fmt: skip
    active = until(lambda: filled.items("statements?active=true"), "it runs")
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert filled.get(f"statements/{active[0]['id']}")["state"] == "cancelled"


def test_a_terminal_sees_how_far_a_long_query_is(filled):
    child = pexpect.spawn(
        str(PROGRAM), ["sql", "select sum(a.range * b.range) as s from range(30000000) a, range(150) b"], encoding="utf-8",
        dimensions=(24, 100), timeout=60,
        env=filled.environment | {"MARTLET_SERVER": f"http://127.0.0.1:{filled.port}", "TERM": "xterm", "LANG": "C.UTF-8"},
    )  # fmt: skip
    child.expect(r"\d+% [█░]+ [0-9.kMG]+ of [0-9.kMG]+ rows, about .* left")
    child.sendintr()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130
    until(lambda: not filled.items("statements?active=true"), "it is cancelled")


def test_numbers_are_printed_with_all_their_digits(filled):
    big = "123456789012345678901234567890"
    text = '{"n":%s,"p":1.50,"n":2}' % big
    sql = (
        f"select {big}::hugeint as h, 18446744073709551615::ubigint as u, 12345678901234567890.1234567890::decimal(38,10) as d, "
        f"'{text}'::json as j, [{big}::hugeint] as l, {{'d': 12345678901234567890.1234567890::decimal(38,10)}} as s, map {{'k': {big}::hugeint}} as m"
    )
    values = [
        big, "18446744073709551615", "12345678901234567890.1234567890", text, f"[{big}]",
        '{"d":12345678901234567890.1234567890}', '{"k":%s}' % big,
    ]  # fmt: skip
    rows = list(csv.reader(filled.cli("sql", "--format", "csv", sql).splitlines()))
    assert rows == [["h", "u", "d", "j", "l", "s", "m"], values]
    for form in ("table", "json", "yaml", "line"):
        printed = filled.cli("sql", "--format", form, sql)
        for value in (big, *values[1:3]):
            assert value in printed, (form, printed)
    assert json.loads(filled.cli("sql", "--format", "json", sql), parse_float=Decimal)[0]["j"]["n"] == 2
    assert '"n": %s' % big in filled.cli("sql", "--format", "json", sql)
    statement = filled.post("statements", {"sql": sql})["id"]
    answer = filled.http("GET", f"/api/v1/statements/{statement}/rows?wait_ms=30000").body
    assert text.encode() in answer and answer.count(big.encode()) >= 4, answer
    answer = filled.http("GET", f"/api/v1/statements/{statement}/rows", headers={"Accept": "text/csv"}).body.decode()
    assert list(csv.reader(answer.splitlines()))[1] == values, answer
    assert filled.cli("sql", "--format", "csv", "select ? as n, typeof(n)", "-p", big).splitlines()[1] == f"{big},HUGEINT"
