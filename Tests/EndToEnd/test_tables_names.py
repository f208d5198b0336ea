# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Names of append tables and of the engine belong to them: SQL and `tables create` leave each other's alone."""

from append_tables import make, publish, settled


def test_sql_neither_takes_nor_changes_what_is_an_append_tables(shared):
    make(shared, "guarded")
    publish(shared, "guarded", {"n": 1})
    settled(shared, "guarded")

    def refusal(statement: str, *more: str) -> str:
        done = shared.run("sql", "--write", statement, *more)
        assert done.returncode != 0, (statement, done)
        return done.stderr

    for statement in ("create table guarded (n int)", "create or replace view \"Guarded\" as select 1", "create table guarded__rejected (n int)"):
        assert "append table" in refusal(statement), statement
    for statement, fix in {
        "insert into guarded values (1)": "topics publish guarded", "drop table guarded": "tables delete guarded",
        "update guarded set n = 2": "tables delete guarded", "delete from guarded": "tables delete guarded",
        "alter table guarded add column m int": "tables update guarded", "drop table guarded__rejected": "tables replay guarded",
    }.items():  # fmt: skip
        told = refusal(statement)
        assert "append table" in told and fix in told, told
    shared.cli("sql", "--write", "create table moves (n int)")
    assert "append table" in refusal("alter table moves rename to guarded")
    shared.cli("sql", "--write", "drop table moves")
    assert "engine" in refusal("create schema system")
    assert shared.sql("select n from guarded") == [[1]] and shared.sql("select count(*) >= 0 from system.logs") == [[True]]
    # Without --write, what helps is the same.
    done = shared.run("sql", "insert into guarded values (1)")
    assert done.returncode != 0 and "topics publish guarded" in done.stderr


def test_an_append_table_cannot_have_a_name_that_is_taken(shared):
    shared.post("topics", {"name": "names", "partitions": 1})
    shared.cli("sql", "--write", "create table named (n int); create view seen as select 1 as a; create table odd__rejected (n int)")
    for name in ("named", "SEEN", "odd"):
        done = shared.run("tables", "create", name, "--topic", "names")
        assert done.returncode != 0 and ("exists" in done.stderr or "a table or view" in done.stderr), done
        assert not any(one["name"].lower() == name.lower() and one.get("topic") for one in shared.items("tables?limit=1000"))
    done = shared.run("tables", "create", "martlet_mine", "--topic", "names")
    assert done.returncode != 0 and "engine's own" in done.stderr
    assert shared.sql("select a from seen") == [[1]]
