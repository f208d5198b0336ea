# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Posts what a handler returned to `K_SINK`, where a platform sets one."""

import base64
import json
import threading
from urllib.parse import quote, urlsplit

from . import encoding, tracing
from .errors import LoadError, MartletError
from .events import VastEvent, VastEventList
from .outputs import event_output


class Sink:
    """The URL results go to, and the attributes the platform overrides."""

    def __init__(self, url, overrides, ctx):
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise LoadError("runtime", "ValueError", "K_SINK is %r; it must be an http or https URL" % url)
        self._parts = parts
        self._ctx = ctx
        self._local = threading.local()
        self._overrides = {}
        if overrides:
            try:
                parsed = json.loads(overrides)
                extensions = parsed.pop("extensions", {})
                self._overrides = {**parsed, **extensions}
            except (ValueError, AttributeError, TypeError) as error:
                raise LoadError(
                    "runtime", "ValueError", "failed parsing knative CE overrides: K_CE_OVERRIDES: %s" % error
                ) from None

    def send(self, event, value):
        """Posts one result as binary CloudEvents; raises when the sink refuses it."""
        several = isinstance(value, VastEventList) or (
            isinstance(value, (list, tuple)) and value and all(isinstance(item, VastEvent) for item in value)
        )
        for item in value if several else (value,):
            self._post(*self._encode(event, item))

    def _encode(self, event, value):
        ctx = self._ctx
        attributes = {
            "specversion": "1.0",
            "id": event.id,
            "type": "%s:Function" % ctx.authority,
            "source": "%s:%s" % (ctx.authority, ctx.function_name),
        }
        if event.get("subject"):
            attributes["subject"] = event.get("subject")
        if event.partition_key:
            attributes["partitionkey"] = event.partition_key
        ids = tracing.active_ids()
        if ids:
            attributes["traceparent"] = "00-%s-%s-01" % ids
        media_type = "application/json"
        if isinstance(value, VastEvent):
            output = event_output(value)
            attributes.update(output.get("attributes", {}))
            media_type = attributes.pop("datacontenttype", None) or media_type
            if "data_base64" in output:
                body = base64.b64decode(output["data_base64"])
            else:
                body = encoding.to_bytes(encoding.dumps(output["data"]))
        elif isinstance(value, (bytes, bytearray, memoryview)):
            body, media_type = bytes(value), "application/octet-stream"
        else:
            body = encoding.to_bytes(encoding.dumps(value))
        attributes.update(self._overrides)
        headers = {
            "ce-" + key: quote(str(kept), safe=" !#$&'()*+,/:;=?@[]-._~{}|^`<>") for key, kept in attributes.items()
        }
        headers["Content-Type"] = media_type
        return headers, body

    def _post(self, headers, body):
        import http.client

        path = (self._parts.path or "/") + ("?" + self._parts.query if self._parts.query else "")
        kept = getattr(self._local, "connection", None)
        for attempt in (0, 1):
            connection = kept
            if connection is None:
                kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
                connection = kind(self._parts.hostname, self._parts.port, timeout=30)
            try:
                connection.request("POST", path, body, headers)
                answer = connection.getresponse()
                text = answer.read()
                break
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                self._local.connection = None
                if kept is None or attempt:
                    raise MartletError(
                        "the sink %s did not take the result: %s" % (self._parts.geturl(), error)
                    ) from None
                kept = None
        self._local.connection = connection
        if answer.status >= 300:
            raise MartletError(
                "the sink %s answered %d: %s"
                % (self._parts.geturl(), answer.status, text[:300].decode("utf-8", "replace"))
            )
