# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""OpenEXR inspection without an imaging library: headers, chunk tables, checks, and statistics on request."""
