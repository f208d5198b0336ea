# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""The handler of functions/trivial for functions-framework."""

import itertools

import functions_framework

calls = itertools.count()


@functions_framework.cloud_event
def handle(event):
    next(calls)
