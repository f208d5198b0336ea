# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""`make bench-tables`: measures what docs/performance.md says of tables, in the form of `make bench`."""

import sys

import run

if __name__ == "__main__":
    # Ten million records take minutes to write: --only tables_telemetry.
    sys.exit(run.main(("telemetry_cost", "tables_visible", "tables_ingest", "tables_query"), large=("tables_telemetry",)))
