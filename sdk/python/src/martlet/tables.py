# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Keyed tables: upsert, delete and transactions over the engine's gateway."""

import re
import sys
from contextvars import ContextVar

from . import encoding
from .errors import GatewayError, TableError
from .state import current_traceparent

BODY_BYTES_MAX = 64 * 1024 * 1024
ROWS_MAX = 1_000_000

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_transaction = ContextVar("martlet_transaction", default=None)


class Tables:
    """`ctx.tables`: `ctx.tables["files"]` is a table, whether it exists yet or not."""

    def __init__(self, sink):
        self._sink = sink
        self._known = {}

    def __getitem__(self, name):
        table = self._known.get(name)
        if table is None:
            _check_name(name, "table")
            table = self._known[name] = Table(self._sink, name)
        return table

    def transaction(self):
        """Returns a transaction over all tables, for `with` or `async with`."""
        return Transaction(self._sink)


class Table:
    """One keyed table."""

    def __init__(self, sink, name):
        self._sink = sink
        self.name = name

    def upsert(self, rows, key):
        """Writes rows (a list of dicts, or one dict), replacing those whose `key` columns are equal.

        Outside a transaction the rows are durable on return. A row that lacks a column another one has gets null there.
        Returns the number of rows given.
        """
        rows = _as_rows(rows, self.name)
        key = [key] if isinstance(key, str) else list(key or ())
        if not key:
            raise TableError("table %s: upsert needs key=[column, ...]" % self.name)
        if not rows:
            return 0
        columns = _columns(rows, self.name)
        for column in key:
            if column not in columns:
                raise TableError("table %s: key column %r is in none of the rows" % (self.name, column))
            for index, row in enumerate(rows):
                if row.get(column) is None:
                    raise TableError("table %s: row %d has no value for the key column %r" % (self.name, index, column))
        head = {"op": "upsert", "table": self.name, "key": key, "columns": columns}
        self._write(head, _encode_rows(rows, columns, self.name), len(rows))
        return len(rows)

    def delete(self, rows, key=None):
        """Deletes the rows whose named columns equal a given row's.

        `rows` are dicts of key columns, or whole rows with `key` naming those that count.

        Outside a transaction the deletion is durable on return. Returns the number of rows given.
        """
        rows = _as_rows(rows, self.name)
        if not rows:
            return 0
        columns = ([key] if isinstance(key, str) else list(key)) if key else _columns(rows, self.name)
        for column in columns:
            _check_name(column, "column")
            for index, row in enumerate(rows):
                if column not in row:
                    raise TableError("table %s: row %d of the delete lacks column %r" % (self.name, index, column))
        head = {"op": "delete", "table": self.name, "columns": columns}
        self._write(head, _encode_rows(rows, columns, self.name), len(rows))
        return len(rows)

    def _write(self, head, rows, count):
        operation = encoding.encode_plain(head)[:-1] + ',"rows":' + rows + "}"
        transaction = _transaction.get()
        if transaction is not None and transaction._open:
            transaction._add(operation, count)
        else:
            _commit(self._sink, [operation], count, len(operation))


class Transaction:
    """All writes of the `with` block, atomic; an exception discards them. Belongs to its thread or task.

    A transaction inside a transaction is part of the outer one; an exception in it discards only its own writes.
    """

    def __init__(self, sink):
        self._sink = sink
        self._operations = []
        self._rows = 0
        self._bytes = 0
        self._outer = None
        self._token = None
        self._after = []
        self._open = False
        #: What the engine counted per table, after the commit.
        self.result = None

    def __enter__(self):
        if self._token is not None:
            raise TableError("this transaction is open already; make another with ctx.transaction()")
        outer = _transaction.get()
        self._outer = outer if outer is not None and outer._open else None
        self._token = _transaction.set(self)
        self._open = True
        return self

    def __exit__(self, kind, error, trace):
        self._leave()
        if kind is None:
            self._finish()
        self._clear()
        return False

    async def __aenter__(self):
        return self.__enter__()

    async def __aexit__(self, kind, error, trace):
        self._leave()
        if kind is None:
            if self._outer is not None:
                self._finish()
            else:
                import asyncio
                import contextvars

                loop = asyncio.get_running_loop()
                await loop.run_in_executor(None, contextvars.copy_context().run, self._finish)
        self._clear()
        return False

    def _leave(self):
        self._open = False
        token, self._token = self._token, None
        _transaction.reset(token)

    def _finish(self):
        outer = self._outer
        if outer is not None:
            outer._operations += self._operations
            outer._rows += self._rows
            outer._bytes += self._bytes
            outer._after += self._after
            return
        if self._operations:
            self.result = _commit(self._sink, self._operations, self._rows, self._bytes)
        for action in self._after:
            action()

    def _clear(self):
        self._operations, self._after, self._outer, self._rows, self._bytes = [], [], None, 0, 0

    def _add(self, operation, rows):
        self._rows += rows
        self._bytes += len(operation)
        total = self._rows
        if total > ROWS_MAX:
            raise TableError(
                "the transaction has %d rows; the limit is %d: use several transactions" % (total, ROWS_MAX)
            )
        if self._bytes > BODY_BYTES_MAX:
            raise TableError("the transaction has more than 64 MiB; use several transactions")
        self._operations.append(operation)


def run_after_commit(action):
    """Runs `action` once the open transaction of this thread or task has committed; False when there is none."""
    transaction = _transaction.get()
    if transaction is None or not transaction._open:
        return False
    transaction._after.append(action)
    return True


def _commit(sink, operations, rows, size):
    if rows > ROWS_MAX:
        raise TableError("%d rows in one write; the limit is %d: use several transactions" % (rows, ROWS_MAX))
    if size > BODY_BYTES_MAX:
        raise TableError("the rows take more than 64 MiB; use several transactions")
    parent = current_traceparent()
    head = '{"traceparent":"%s","operations":[' % parent if parent else '{"operations":['
    text = head + ",".join(operations) + "]}"
    try:
        answer = sink.commit(text)
    except GatewayError as error:
        raise TableError(str(error)) from None
    return (answer or {}).get("tables", {})


def _as_rows(rows, table):
    if isinstance(rows, dict):
        return [rows]
    if isinstance(rows, (str, bytes)):
        raise TableError("table %s: rows must be dicts, not %s" % (table, type(rows).__name__))
    if hasattr(rows, "to_dict") and hasattr(rows, "columns"):
        rows = rows.to_dict("records")
    try:
        rows = list(rows)
    except TypeError:
        raise TableError("table %s: rows must be a list of dicts, not %s" % (table, type(rows).__name__)) from None
    for index, row in enumerate(rows):
        if not isinstance(row, dict):
            raise TableError("table %s: row %d is %s, not a dict" % (table, index, type(row).__name__))
    return rows


def _columns(rows, table):
    seen = {}
    last = None
    for row in rows:
        keys = row.keys()
        if last is None or keys != last:
            for name in keys:
                seen[name] = None
            last = keys
    if not seen:
        raise TableError("table %s: the rows have no columns" % table)
    for name in seen:
        _check_name(name, "column")
    return list(seen)


def _check_name(name, what):
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise TableError(
            "%s name %r: use a letter or underscore, then letters, digits, underscores, at most 128" % (what, name)
        )


def _encode_rows(rows, columns, table):
    cell = encoding.cell
    try:
        return encoding.encode_plain([[cell(row.get(column)) for column in columns] for row in rows])
    except (TypeError, ValueError, OverflowError, RecursionError):
        _blame(rows, columns, table)
        raise


def _blame(rows, columns, table):
    """Raises TableError naming the value that cannot be written."""
    for index, row in enumerate(rows):
        for column in columns:
            try:
                encoding.encode_plain(encoding.cell(row.get(column)))
            except encoding.Unencodable as error:
                raise TableError(
                    "table %s: row %d, column %s: a %s cannot be stored; convert it to a string, number, date or bytes"
                    % (table, index, column, error.kind)
                ) from None
            except (TypeError, ValueError, OverflowError) as error:
                raise TableError("table %s: row %d, column %s: %s" % (table, index, column, error)) from None
            except RecursionError:
                raise TableError(
                    "table %s: row %d, column %s: the value is nested too deep" % (table, index, column)
                ) from None


class GatewaySink:
    """Sends transactions to the engine."""

    def __init__(self, gateway):
        self._gateway = gateway

    def commit(self, text):
        """Posts one transaction and returns the engine's answer once it is durable."""
        return self._gateway.post_json("/v1/tables/commit", text)


class MemorySink:
    """Keeps rows in memory and prints what would be written, where there is no engine."""

    def __init__(self, write=None):
        import threading

        self._lock = threading.Lock()
        self._write = write or (lambda line: print(line, file=sys.__stdout__, flush=True))
        #: Rows by table, then by the values of the key columns.
        self.tables = {}

    def commit(self, text):
        """Applies one transaction and prints it, one line per operation."""
        import json

        counts = {}
        with self._lock:
            for operation in json.loads(text)["operations"]:
                name, columns = operation["table"], operation["columns"]
                count = counts.setdefault(name, {"upserted": 0, "deleted": 0})
                kept = self.tables.setdefault(name, {})
                rows = [dict(zip(columns, row)) for row in operation["rows"]]
                if operation["op"] == "upsert":
                    for row in rows:
                        mark = json.dumps([row[column] for column in operation["key"]])
                        kept[mark] = {**kept.get(mark, {}), **row}
                    count["upserted"] += len(rows)
                else:
                    gone = [
                        mark
                        for mark, old in kept.items()
                        if any(all(old.get(column) == row[column] for column in columns) for row in rows)
                    ]
                    for mark in gone:
                        del kept[mark]
                    count["deleted"] += len(gone)
                self._print(operation, rows)
        return {"tables": counts}

    def _print(self, operation, rows):
        head = "table %s: %s %d row%s" % (operation["table"], operation["op"], len(rows), "" if len(rows) == 1 else "s")
        if operation["op"] == "upsert":
            head += " on key " + ", ".join(operation["key"])
        self._write(head)
        for row in rows[:20]:
            self._write("  " + encoding.encode_plain(row))
        if len(rows) > 20:
            self._write("  and %d more" % (len(rows) - 20))
