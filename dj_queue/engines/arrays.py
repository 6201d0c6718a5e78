"""PostgreSQL's arrays, written as text: the driver takes ten times as long for a list of values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def array(values: Iterable[Any]) -> str:
    """Return the text of an array of one dimension, for `%s::type[]`; None is NULL.

    The values are those whose text PostgreSQL reads: str, numbers, bool, UUID, datetime.
    """
    return f"{{{','.join(map(_element, values))}}}"


def _element(value: Any) -> str:
    if value is None:
        return "NULL"
    # Of a str's subclass its own text: that of an enum is its name.
    text = str.__str__(value) if isinstance(value, str) else str(value)
    if "\\" in text or '"' in text:
        text = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
