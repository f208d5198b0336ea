# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""The SDK under the name DataEngine 5.5 functions import."""

from martlet import (
    Context,
    ElementTriggerVastEvent,
    FunctionVastEvent,
    ManualVastEvent,
    ScheduleVastEvent,
    VastEvent,
    VastEventList,
    event_batching_handler,
    get_global_ctx,
    set_global_ctx,
)

__all__ = [
    "Context",
    "ElementTriggerVastEvent",
    "FunctionVastEvent",
    "ManualVastEvent",
    "ScheduleVastEvent",
    "VastEvent",
    "VastEventList",
    "event_batching_handler",
    "get_global_ctx",
    "set_global_ctx",
]
