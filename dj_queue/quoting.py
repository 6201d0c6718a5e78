"""What messages quote of values and errors: bounded text, without running the value's own code.

The repr() of a foreign value may raise, query a database, or be as long as memory allows.
"""

from __future__ import annotations

import datetime
from decimal import Decimal
from itertools import islice
from types import FunctionType
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

MAX_LENGTH = 300
MAX_ERROR_LENGTH = 500
MAX_ITEMS = 10
MAX_LEVELS = 3
MAX_BITS = 500

CLOCKS = {datetime.datetime, datetime.time}
SIMPLE = {
    *CLOCKS, type(None), bool, float, complex, datetime.date, datetime.timedelta, Decimal, UUID,
    FunctionType,
}  # fmt: skip
TEXTS = (str, bytes, bytearray)
BRACKETS: dict[type, tuple[str, str]] = {
    list: ("[", "]"),
    tuple: ("(", ")"),
    set: ("{", "}"),
    frozenset: ("frozenset({", "})"),
    dict: ("{", "}"),
}
ZONES = {type(None), datetime.timezone, ZoneInfo}


def quoted(value: object) -> str:
    """Return the repr() of a value of Python's own types, or the type of any other; cut."""
    return _cut(_quoted(value, 1), MAX_LENGTH)


def quoted_with_type(value: object) -> str:
    """Return a value as `quoted` does; behind a repr() the name of its type."""
    text = quoted(value)
    is_named = text == _cut(_instance(value), MAX_LENGTH)
    return text if is_named else f"{text} ({type(value).__name__})"


def quoted_error(error: BaseException) -> str:
    """Return an exception's type and message, cut."""
    return f"{type(error).__name__}: {_cut(text_of(error), MAX_ERROR_LENGTH)}"


def text_of(error: BaseException) -> str:
    """Return an exception's whole message; its own str() may fail without harm."""
    try:
        return str(error)
    except BaseException as unprintable:  # It is the task's code, as the task is.
        return f"<str() of the exception raised {type(unprintable).__name__}>"


def _quoted(value: Any, level: int) -> str:
    # By type(), not isinstance(): a lazy object is evaluated when it is asked for its class.
    kind = type(value)
    for plain in TEXTS:
        if issubclass(kind, plain):
            return repr(plain.__getitem__(value, slice(MAX_LENGTH + 1)))
    if issubclass(kind, int) and kind is not bool:
        bits = int.bit_length(value)
        return int.__repr__(value) if bits <= MAX_BITS else f"a number of {bits} bits"
    if kind in BRACKETS:
        return _group(value, level)
    if issubclass(kind, type):
        return type.__repr__(value)
    if issubclass(kind, BaseException) and kind.__module__ == "builtins":
        items = _items(value.args, level + 1) if level <= MAX_LEVELS else "…"
        return f"{kind.__name__}({items})"
    # A time zone's repr() is part of a datetime's.
    if kind in SIMPLE and (kind not in CLOCKS or type(value.tzinfo) in ZONES):
        return repr(value)
    return _instance(value)


def _group(value: Any, level: int) -> str:
    if not value:
        return repr(value)
    start, end = BRACKETS[type(value)]
    if level > MAX_LEVELS:
        return f"{start}…{end}"
    comma = "," if type(value) is tuple and len(value) == 1 else ""
    return f"{start}{_items(value, level + 1)}{comma}{end}"


def _items(values: Any, level: int) -> str:
    if type(values) is dict:
        pairs = islice(values.items(), MAX_ITEMS)
        items = [f"{_quoted(key, level)}: {_quoted(each, level)}" for key, each in pairs]
    else:
        items = [_quoted(each, level) for each in islice(values, MAX_ITEMS)]
    return ", ".join([*items, "…"] if len(values) > MAX_ITEMS else items)


def _instance(value: object) -> str:
    kind = type(value)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return f"an instance of {module}{kind.__qualname__}"


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]}…"
