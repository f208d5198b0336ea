# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""The rows of the table that `make bench` prints."""
