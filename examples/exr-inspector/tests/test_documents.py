# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""What README and the resource files say is what the code does."""

import re

from conftest import FUNCTION
from test_handler import COLUMNS

from exr.findings import CODES
from exr.inspection import TABLES

README = (FUNCTION / "README.md").read_text()


def test_readme_lists_every_code_with_its_severity_and_meaning():
    listed = re.findall(r"^\| `(\w+)` \| (error|warning|info) \| (.*) \|$", README, re.MULTILINE)
    assert {code: (severity, meaning) for code, severity, meaning in listed} == CODES


def test_readme_lists_every_table_with_its_key_and_columns():
    listed = re.findall(r"^\| `(\w+)` \| ([a-z_, ]+) \| ([a-z_, ]+) \|$", README, re.MULTILINE)
    tables = {table: (key.split(", "), columns.split(", ")) for table, key, columns in listed if table in TABLES}
    assert tables == {table: (key, COLUMNS[table]) for table, key in TABLES.items()}


def test_resource_files_name_each_other():
    view, trigger, pipeline = ((FUNCTION / f"{name}.yaml").read_text() for name in ("view", "trigger", "pipeline"))
    assert "name: exr\n" in view and "source_bucket: exr\n" in trigger
    assert "vrn: vast:dataengine:triggers:exr-files\n" in pipeline and "name: exr-files\n" in trigger
    assert "function_vrn: vast:dataengine:functions:exr-inspector\n" in pipeline


def test_requirements_are_pinned():
    lines = (FUNCTION / "requirements.txt").read_text().split()
    assert lines and all(re.fullmatch(r"[A-Za-z0-9]+==[0-9.]+", line) for line in lines)
