# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Import names of functions written for VAST DataEngine 5.5."""
