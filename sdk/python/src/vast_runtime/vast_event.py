# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""The event classes under the name DataEngine 5.4 functions import."""

from martlet.events import (
    ElementTriggerVastEvent,
    FunctionVastEvent,
    ManualVastEvent,
    ScheduleVastEvent,
    VastEvent,
    VastEventList,
)

__all__ = [
    "ElementTriggerVastEvent",
    "FunctionVastEvent",
    "ManualVastEvent",
    "ScheduleVastEvent",
    "VastEvent",
    "VastEventList",
]
