# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""The errors that user code and the runtime see."""


class MartletError(Exception):
    """Base of every error raised by this package."""


class GatewayError(MartletError):
    """The engine could not be reached or answered with an error; `status` is 0 when there was no answer."""

    def __init__(self, message, status=0):
        super().__init__(message)
        self.status = status


class TableError(MartletError):
    """A table write was refused; nothing of its transaction was kept."""


class EmitError(MartletError):
    """Events could not be put into a topic."""


class EventError(MartletError, ValueError):
    """An event is malformed."""


class LoadError(MartletError):
    """The handler file cannot be used; `phase` is `import`, `init` or `runtime`."""

    def __init__(self, phase, kind, message, traceback=""):
        super().__init__(message)
        self.phase = phase
        self.kind = kind
        self.traceback = traceback
