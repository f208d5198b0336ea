# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

SWIFT ?= swift
# One configuration everywhere: a program, its tests and its benchmarks share what is compiled.
SWIFT_FLAGS := -c release
# SwiftPM passes the traits of dependencies on in the order of a set. Another order each time is another command line, and compiles them and all that uses
# them again. Only where something is built: what is run must not have it, since it makes the order of dictionaries known to whoever sends their keys.
SWIFT_BUILD := SWIFT_DETERMINISTIC_HASHING=1 $(SWIFT) build $(SWIFT_FLAGS)
# Without the first option `swift test` compiles every module again.
TEST_FLAGS := --disable-testable-imports --disable-xctest
# Products are named wherever something is built: without a name SwiftPM builds swift-protobuf's plugin too, which compiles protoc.
PYTHON := .venv/bin/python
PYTEST := $(PYTHON) -m pytest -q
MARTLET := .build/release/martlet
# Directory of OpenEXR files that `make demo` adds to its own.
EXR_DIR ?=
DATA_DIR ?= ./martlet-data

.PHONY: help setup build demo serve check check-generated test test-swift test-sdk test-examples test-tools test-end-to-end bench bench-tables bench-broker clean

help:  ## Show the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | awk -F '\t' '{ printf "  make %-16s %s\n", $$1, $$2 }'

setup:  ## Install what is missing: Debian packages, and Python packages into .venv
	@Tools/setup

build: setup  ## Build the program
	$(SWIFT_BUILD) --product martlet

demo: build  ## Run the main job on real files, on a temporary data directory; EXR_DIR=DIR adds files
	@$(PYTHON) examples/exr-inspector/demo.py --martlet $(MARTLET) $(if $(EXR_DIR),--exr-dir "$(EXR_DIR)")

serve: build  ## Run the engine in the foreground on DATA_DIR (./martlet-data)
	@$(MARTLET) serve --data-dir "$(DATA_DIR)"

check:  ## Check format, licence lines, banned calls, lengths, documentation, imports and links
	@Tools/check

check-generated: setup  ## Check that generated code is what its generators write; builds the plugins they need
	$(SWIFT_BUILD) --product protoc-gen-swift
	$(SWIFT_BUILD) --product protoc-gen-grpc-swift-2
	@Tools/check generated

test: test-tools test-swift test-sdk test-examples test-end-to-end  ## Run every test

test-swift: setup  ## Run the Swift tests
	$(SWIFT_BUILD) --product MartletPackageTests
	$(SWIFT) test $(SWIFT_FLAGS) $(TEST_FLAGS) --skip-build --skip KafkaAPITests --skip CatalogTests
# By themselves: they open databases on the threads that all tests share, and nothing else would go on.
	$(SWIFT) test $(SWIFT_FLAGS) $(TEST_FLAGS) --skip-build --filter CatalogTests
# By themselves: how long clients may take is measured in seconds, which a thousand tests at once do not leave them.
	$(SWIFT) test $(SWIFT_FLAGS) $(TEST_FLAGS) --skip-build --filter KafkaAPITests

test-sdk: setup  ## Run the tests of the Python SDK
	cd sdk/python && ../../$(PYTEST)

test-examples: build  ## Run the tests of the examples
	cd examples/exr-inspector && ../../$(PYTEST)

test-tools: setup  ## Run the tests of Tools/check
	$(PYTEST) Tools/tests

test-end-to-end: build  ## Run the tests that drive the real program
	$(SWIFT_BUILD) --product grpc-example
# A file's tests share engines; two files at a time, because most of a test is waiting.
	$(PYTEST) Tests/EndToEnd -n 2 --dist loadfile

bench: build  ## Measure, and print ratios where there is a peer
	$(SWIFT_BUILD) --product eventlog-benchmark
	@$(PYTHON) Benchmarks/run.py --martlet $(MARTLET)

bench-tables: build  ## Measure tables that follow topics, against DuckDB alone
	$(SWIFT_BUILD) --product tables-benchmark
	@$(PYTHON) Benchmarks/tables.py --martlet $(MARTLET)

bench-broker: build  ## Measure the event broker, against NATS and Redis from Debian
	@Tools/setup peers
	@$(PYTHON) Benchmarks/broker.py --martlet $(MARTLET)

clean:  ## Remove what was built; data directories stay
	rm -rf .build .venv .pytest_cache
	find sdk examples Tests Tools -name __pycache__ -prune -exec rm -rf {} +
