# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""What an element event is about: the element's name, where its bytes are, and what happened to it."""

from typing import NamedTuple
from urllib.parse import unquote, urlsplit


class NotAnElement(ValueError):
    """The event does not say which element it is about, or where that is."""


class Element(NamedTuple):
    """`path` is `<view>/<key>`; `location` the file's path on this machine, None where the event names none."""

    path: str
    location: str | None
    is_removal: bool
    is_content: bool


def element_of(event) -> Element:
    """Reads an element event.

    - Raises: NotAnElement with what to add where the name or the URL is missing.
    """
    extensions = event.extensions
    path = extensions.get("elementpath")
    if not path and event.bucket and event.object_key:
        path = f"{event.bucket}/{event.object_key}"
    if not path:
        raise NotAnElement(
            f"event {event.id} has no extension elementpath; use an element trigger, or add elementpath: <view>/<key>"
        )
    action = event_name(event)
    is_removal = action.startswith(("ObjectRemoved", "ElementDeleted"))
    is_content = not action.startswith(("ObjectTagging", "ElementTag", "ElementAccess"))
    url = extensions.get("elementurl")
    if url:
        location = file_location(url)
    elif is_removal or not is_content:
        location = None
    else:
        raise NotAnElement(f"event {event.id} for {path} has no extension elementurl; add elementurl: file:///<path>")
    return Element(path, location, is_removal, is_content)


def event_name(event) -> str:
    """What happened: the S3 record's event name, else the part of the event type after the dot."""
    data = event.get_data() if hasattr(event, "get_data") else event.data
    if isinstance(data, dict):
        data = data.get("data", data) if "Records" not in data else data
        records = data.get("Records") if isinstance(data, dict) else None
        if isinstance(records, list) and records and isinstance(records[0], dict):
            name = records[0].get("eventName")
            if isinstance(name, str) and name:
                return name.removeprefix("s3:")
    return getattr(event, "subtype", None) or ""


def file_location(url: str) -> str:
    """The path of a file:// URL, percent-decoded; bytes that are not UTF-8 survive the way."""
    parts = urlsplit(url.replace("?", "%3F").replace("#", "%23"))
    if parts.scheme != "file" or parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise NotAnElement(
            f"elementurl {url!r} is not a file:///… URL; this function reads elements of directory views"
        )
    location = unquote(parts.path, errors="surrogateescape")
    if "\0" in location:
        raise NotAnElement(f"elementurl {url!r} contains a NUL")
    return location
