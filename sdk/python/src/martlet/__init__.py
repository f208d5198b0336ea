# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Functions for Martlet: the context, the events, the batching decorator and the errors."""

from .context import Context, get_global_ctx, set_global_ctx
from .errors import EmitError, EventError, GatewayError, MartletError, TableError
from .events import (
    ElementTriggerVastEvent,
    FunctionVastEvent,
    ManualVastEvent,
    ScheduleVastEvent,
    VastEvent,
    VastEventList,
    event_batching_handler,
)

__version__ = "0.1.0"

__all__ = [
    "Context",
    "ElementTriggerVastEvent",
    "EmitError",
    "EventError",
    "FunctionVastEvent",
    "GatewayError",
    "ManualVastEvent",
    "MartletError",
    "ScheduleVastEvent",
    "TableError",
    "VastEvent",
    "VastEventList",
    "event_batching_handler",
    "get_global_ctx",
    "set_global_ctx",
]
