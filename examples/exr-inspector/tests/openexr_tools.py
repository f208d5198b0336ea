# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""What exrheader and exrinfo say about a file, as values to compare with."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest


def needs(tool: str):
    return pytest.mark.skipif(shutil.which(tool) is None, reason=f"{tool} is not installed (apt package openexr)")


class Attribute(NamedTuple):
    type: str
    value: str
    lines: list[str]


class Report(NamedTuple):
    version: int
    flags: set[str] | int
    parts: list[dict[str, Attribute]]


def run(*command) -> tuple[int, str]:
    done = subprocess.run(list(map(str, command)), capture_output=True, timeout=60)
    return done.returncode, (done.stdout + done.stderr).decode("utf-8", "replace")


def exrheader(path: Path) -> Report | None:
    """None where exrheader refuses the file."""
    code, text = run("exrheader", path)
    head = re.search(r"file format version: (\d+), flags 0x([0-9a-f]+)", text)
    if code or head is None:
        return None
    parts: list[dict[str, Attribute]] = [{}]
    current = None
    for line in text[head.end() :].splitlines():
        found = re.match(r"(\S.*?) \(type (\S+)\)(?:: ?(.*)|:?)$", line)
        if re.match(r" part \d+:", line):
            parts.append({})
        elif found:
            current = Attribute(found[2], found[3] or "", [])
            parts[-1][found[1]] = current
        elif current is not None and line.startswith(" "):
            current.lines.append(line.strip())
    return Report(int(head[1]), int(head[2], 16), [part for part in parts if part])


def exrinfo(path: Path) -> Report | None:
    """None where exrinfo refuses the file."""
    code, text = run("exrinfo", "-v", "-a", path)
    head = re.search(r"^File '.*': ver (\d+) flags ?(.*)$", text, re.MULTILINE)
    if code or head is None or "ERROR" in text:
        return None
    parts: list[dict[str, Attribute]] = []
    current = None
    for line in text[head.end() :].splitlines():
        found = re.match(r"  (\S+): (\S+) ?(.*)$", line)
        if re.match(r" part \d+:", line):
            parts.append({})
        elif found:
            current = Attribute(found[2], found[3], [])
            parts[-1][found[1]] = current
        elif current is not None and line.startswith("   "):
            current.lines.append(line.strip())
    return Report(int(head[1]), set(head[2].split()), parts)


def numbers(text: str) -> list[float]:
    """Every number in a text, in order."""
    return [float(found) for found in re.findall(r"[-+]?(?:inf|nan|\d+\.?\d*(?:[eE][-+]?\d+)?)", text)]
