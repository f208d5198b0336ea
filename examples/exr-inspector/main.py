# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""exr-inspector: keeps six tables about the OpenEXR files of a view up to date."""

import os

from exr.element import Element, element_of
from exr.inspection import TABLES, Rows, inspect

TRUE_WORDS = {"1", "true", "yes", "on"}
FALSE_WORDS = {"", "0", "false", "no", "off"}


class Settings:
    """EXR_STATS switches pixel statistics on, EXR_SAMPLE_STRIDE thins them; an event's `exrstats` overrides both."""

    def __init__(self, environment) -> None:
        self.sample_stride = self.stride("EXR_SAMPLE_STRIDE", environment.get("EXR_SAMPLE_STRIDE") or "1")
        self.stats = self.flag("EXR_STATS", environment.get("EXR_STATS") or "")

    def stride_for(self, extensions) -> int | None:
        """The sample stride for one event, None for no statistics; `exrstats` is yes, no, or a stride."""
        asked = extensions.get("exrstats")
        if asked is None:
            return self.sample_stride if self.stats else None
        word = str(asked).strip().lower()
        if word.isdecimal() and int(word) > 1:
            return int(word)
        return self.sample_stride if self.flag("event extension exrstats", word) else None

    @staticmethod
    def flag(name: str, word: str) -> bool:
        word = word.strip().lower()
        if word in TRUE_WORDS | FALSE_WORDS:
            return word in TRUE_WORDS
        raise ValueError(f"{name} is {word!r}; use 1 or 0")

    @staticmethod
    def stride(name: str, word: str) -> int:
        if word.strip().isdecimal() and int(word) >= 1:
            return int(word)
        raise ValueError(f"{name} is {word!r}; use a whole number from 1")


def init(ctx):
    ctx.exr_settings = Settings(os.environ)
    if ctx.exr_settings.stats:
        from exr import pixels  # noqa: F401  Loads NumPy and OpenEXR before the first event.
    ctx.logger.info(
        "exr-inspector ready: statistics %s, sample stride %d",
        "on" if ctx.exr_settings.stats else "on request",
        ctx.exr_settings.sample_stride,
    )


def handler(ctx, event):
    element = element_of(event)
    if not element.is_content:
        return {"status": "skipped", "path": element.path, "reason": "neither content nor existence changed"}
    rows = inspect_element(ctx, element, ctx.exr_settings.stride_for(event.extensions))
    with ctx.tracer.start_as_current_span("write tables") as span:
        write(ctx, element.path, rows)
        span.set_attribute("rows", sum(len(table) for table in rows.values()) if rows else 0)
    if rows is None:
        ctx.logger.info("%s is gone: its rows are deleted", element.path)
        return {"status": "removed", "path": element.path}
    errors = sum(row["severity"] == "error" for row in rows["validation"])
    if errors:
        ctx.logger.warning("%s: %d errors, the first: %s", element.path, errors, first_error(rows))
    counts = {table: len(entries) for table, entries in rows.items()}
    return {
        "status": "inspected",
        "path": element.path,
        "hash": rows["files"][0]["hash"],
        "errors": errors,
        "rows": counts,
    }


def inspect_element(ctx, element: Element, stride: int | None) -> Rows | None:
    """Rows for what the element is now, None where it is gone.

    The file decides, not the event: a removal that arrives after the file was written again must not delete its rows.
    """
    if element.location is None:
        return None
    with ctx.tracer.start_as_current_span("inspect") as span:
        span.set_attribute("path", element.path)
        try:
            return inspect(element.path, element.location, stride)
        except (FileNotFoundError, NotADirectoryError):
            return None


def write(ctx, path: str, rows: Rows | None) -> None:
    """Replaces everything the tables hold about the file, in one transaction."""
    with ctx.transaction():
        for table, key in TABLES.items():
            if table != "files" or rows is None:
                ctx.tables[table].delete([{key[0]: path}])
            if rows and rows[table]:
                ctx.tables[table].upsert(rows[table], key=key)


def first_error(rows: Rows) -> str:
    return next(f"{row['code']}: {row['message']}" for row in rows["validation"] if row["severity"] == "error")
