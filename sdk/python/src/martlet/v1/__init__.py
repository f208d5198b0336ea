# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Messages and clients of the engine's gRPC API; docs/grpc.md shows how they are used."""
