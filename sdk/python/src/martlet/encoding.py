# Martlet: a self-hosted data engine.
# SPDX-License-Identifier: Apache-2.0

"""Python values as JSON: rows of tables, results of handlers."""

import base64
import json
import math
from datetime import date, datetime, time, timezone
from decimal import Decimal

_PLAIN = frozenset((str, bool, type(None)))
_INT64 = 1 << 63
_TAGS = frozenset(("$float", "$bytes", "$timestamp", "$date", "$decimal"))


class Unencodable(TypeError):
    """A value has no JSON form; `kind` names its type."""

    def __init__(self, value):
        super().__init__("%s has no table form" % type(value).__name__)
        self.kind = "%s.%s" % (type(value).__module__, type(value).__qualname__)


def _default(value):
    """Makes a value JSON knows of one it does not, for results and events."""
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    if type(value).__module__.partition(".")[0] == "numpy" and hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "__fspath__"):
        return value.__fspath__()
    if type(value).__name__ == "UUID":
        return str(value)
    raise TypeError(
        "%s cannot be written as JSON; return dicts, lists, strings, numbers, booleans or None" % type(value).__name__
    )


_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_default)
_plain_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def dumps(value):
    """Returns strict JSON text; dates, decimals, paths, sets and numpy values become plain ones, NaN is refused."""
    try:
        return _encoder.encode(value)
    except ValueError as error:
        if "Circular" in str(error):
            raise ValueError("the value refers to itself, which JSON cannot carry") from None
        raise ValueError("the value holds NaN or an infinity, which JSON cannot carry; use None or a string") from None


def to_bytes(text):
    """Returns UTF-8; half a surrogate pair (from undecodable file names) becomes `?`."""
    return text.encode("utf-8", "replace")


def encode_plain(value):
    """Returns JSON text of a value already made of JSON types."""
    return _plain_encoder.encode(value)


def cell(value):
    """Returns the JSON form of one table value, tagged where JSON has no such type."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is int:
        return value if -_INT64 <= value < _INT64 else {"$decimal": str(value)}
    if kind is float:
        return value if math.isfinite(value) else {"$float": _float_name(value)}
    if kind is list or kind is tuple:
        return [cell(item) for item in value]
    if kind is dict:
        if len(value) == 1 and next(iter(value)) in _TAGS:
            raise ValueError("the object %r looks like a tagged value; rename its key" % (value,))
        return {str(key): _nested(item) for key, item in value.items()}
    return _rare(value)


def _float_name(value):
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _rare(value):
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"$bytes": base64.b64encode(bytes(value)).decode("ascii")}
    if isinstance(value, datetime):
        if value != value:
            return None
        if value.tzinfo is not None:
            value = value.astimezone(timezone.utc).replace(tzinfo=None)
        return {"$timestamp": value.isoformat() + "Z"}
    if isinstance(value, date):
        return {"$date": value.isoformat()}
    if isinstance(value, Decimal):
        return {"$decimal": format(value, "f")} if value.is_finite() else {"$float": _float_name(float(value))}
    if type(value).__module__.partition(".")[0] == "numpy":
        return _numpy(value)
    if isinstance(value, bool):
        return bool(value)
    if isinstance(value, int):
        return cell(int(value))
    if isinstance(value, float):
        return cell(float(value))
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, dict):
        return cell(dict(value))
    if isinstance(value, (list, tuple, set, frozenset)):
        return [cell(item) for item in value]
    if isinstance(value, time):
        return value.isoformat()
    if hasattr(value, "__fspath__"):
        return cell(value.__fspath__())
    if type(value).__name__ == "UUID":
        return str(value)
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    raise Unencodable(value)


def _numpy(value):
    dtype = getattr(value, "dtype", None)
    if dtype is None:
        raise Unencodable(value)
    if dtype.kind == "M":
        if getattr(value, "ndim", 0):
            return [_numpy(item) for item in value]
        unit = value.astype("datetime64[us]").item()
        return None if unit is None else cell(unit)
    if dtype.kind in "biufSUO":
        return cell(value.tolist())
    if dtype.kind == "V" and not getattr(value, "ndim", 0):
        return cell(list(value.tolist()))
    raise Unencodable(value)


def _nested(value):
    """Returns plain JSON for what lies inside an object, which tables keep as JSON text."""
    done = cell(value)
    return _untag(done)


def _untag(value):
    if type(value) is list:
        return [_untag(item) for item in value]
    if type(value) is dict and len(value) == 1:
        tag, inner = next(iter(value.items()))
        if tag in _TAGS:
            return None if tag == "$float" else inner
    return value
