# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""`make bench-tables`: measures what docs/performance.md says of tables, in the form of `make bench`."""

import sys

import run

if __name__ == "__main__":
    sys.exit(run.main(("tables_ingest", "tables_visible", "tables_query")))
