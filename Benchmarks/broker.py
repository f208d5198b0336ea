# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""`make bench-broker`: measures the event broker against NATS JetStream and Redis streams, in the form of `make bench`."""

import sys

import run

if __name__ == "__main__":
    sys.exit(run.main(("broker_waiting", "broker_single", "broker_produce", "broker_grpc", "broker_consume", "broker_scale")))
