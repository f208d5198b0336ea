# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""A function with two requirements, of which one is compiled code."""

import numpy
import requests


def handler(ctx, event):
    return {"mean": float(numpy.mean([1.0, 2.0, 3.0])), "requests": requests.__version__}
