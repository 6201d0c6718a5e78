"""What settings may be: names and their lengths, and a parser for each kind of value."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from dj_queue.exceptions import InvalidOption
from dj_queue.quoting import quoted

NAME_LENGTH = 64
"""Longest name of a backend or queue, in characters."""

PATH_LENGTH = 255
"""Longest path of a task, in characters."""

SCHEDULE_LENGTH = 255
"""Longest cron expression, in characters."""

TIMEZONE_LENGTH = 64
"""Longest name of a time zone, in characters."""

MISFIRES = ("latest", "all", "skip")
"""What becomes of instants of a recurring task at which no scheduler ran."""

FIRST_YEAR, LAST_YEAR = 1000, 9998
"""Of moments that users choose: MySQL's first, and the last that ends before Python's calendar."""

KEY_LENGTH = 255
"""Longest concurrency key, in characters."""

LONGEST_DURATION = 31_536_000
"""Of the slots of a concurrency key, in seconds: a year."""

QUEUE_NAME = (
    f"1 to {NAME_LENGTH} characters, without NUL, lone surrogates, space around them or '*' at the "
    "end"
)
"""What a queue may be called, in words."""

Parser = Callable[[Any, str], Any]
"""Takes a raw value and its path, returns the checked value or raises InvalidOption."""


def is_queue_name(name: object) -> bool:
    """Tell whether every vendor keeps this name exactly and a selector can mean it alone."""
    return (
        isinstance(name, str)
        and 0 < len(name) <= NAME_LENGTH
        and name == name.strip()
        and not name.endswith("*")
        and is_storable(name)
    )


def is_storable(text: str) -> bool:
    """Tell whether every vendor keeps a text: PostgreSQL keeps no NUL, and UTF-8 no surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\x00" not in text


def expected(path: str, what: str, got: object) -> InvalidOption:
    """Build the error for one bad setting."""
    return InvalidOption(f"{path}: expected {what}, got {quoted(got)}")


def flag(value: Any, path: str) -> bool:
    """Accept True or False."""
    if not isinstance(value, bool):
        raise expected(path, "True or False", value)
    return value


def flag_or_none(value: Any, path: str) -> bool | None:
    """Accept True, False or None."""
    if value is not None and not isinstance(value, bool):
        raise expected(path, "True, False or None", value)
    return value


def alias(value: Any, path: str) -> str:
    """Accept the name of a database; whether it exists is the router's business."""
    if not isinstance(value, str) or not value:
        raise expected(path, "the alias of a database in DATABASES", value)
    return value


def alias_or_none(value: Any, path: str) -> str | None:
    """Accept the name of a database, or None."""
    if value is not None and (not isinstance(value, str) or not value):
        raise expected(path, "the alias of a database in DATABASES, or None", value)
    return value


def whole(minimum: int, maximum: int) -> Parser:
    """Accept a whole number within bounds, both inclusive."""

    def parse(value: Any, path: str) -> int:
        if type(value) is not int or not minimum <= value <= maximum:
            raise expected(path, f"a whole number from {minimum} to {maximum}", value)
        return value

    return parse


def seconds(minimum: float, maximum: float) -> Parser:
    """Accept a finite number of seconds within bounds, both inclusive."""

    def parse(value: Any, path: str) -> float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or not minimum <= value <= maximum:
            raise expected(path, f"a number of seconds from {minimum} to {maximum}", value)
        return float(value)

    return parse


def seconds_or_none(minimum: float, maximum: float) -> Parser:
    """Accept a finite number of seconds within bounds, both inclusive, or None."""
    number = seconds(minimum, maximum)

    def parse(value: Any, path: str) -> float | None:
        if value is None:
            return None
        try:
            checked: float = number(value, path)
        except InvalidOption:
            what = f"a number of seconds from {minimum} to {maximum}, or None"
            raise expected(path, what, value) from None
        return checked

    return parse


def moment(value: Any, path: str) -> datetime:
    """Accept a datetime that every vendor keeps and every time zone shows; aware or not."""
    # By its year: to convert it, or to compare it with another zone's, overflows at the ends.
    if not isinstance(value, datetime):
        raise expected(path, "a datetime or a timedelta", value)
    if not FIRST_YEAR <= value.year <= LAST_YEAR:
        raise expected(path, f"a datetime of the years {FIRST_YEAR} to {LAST_YEAR}", value)
    return value


def selectors(value: Any, path: str) -> tuple[str, ...]:
    """Accept a selector or a list of them: `"*"`, an exact name, or `"prefix*"`."""
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list | tuple) or not listed:
        raise expected(path, "'*', a queue name, 'prefix*' or a list of these", value)
    for index, selector in enumerate(listed):
        if selector == "*":
            continue
        if not isinstance(selector, str) or not is_queue_name(selector.removesuffix("*")):
            what = f"'*', a queue name or the beginning of one and '*' ({QUEUE_NAME})"
            raise expected(f"{path}[{index}]", what, selector)
    return tuple(listed)


def one_of(*values: str) -> Parser:
    """Accept one of these words."""

    def parse(value: Any, path: str) -> str:
        if not isinstance(value, str) or value not in values:
            raise expected(path, f"one of {', '.join(map(repr, values))}", value)
        return value

    return parse


def text(what: str, length: int) -> Parser:
    """Accept text of 1 to `length` characters, called `what` in messages."""

    def parse(value: Any, path: str) -> str:
        if not isinstance(value, str) or not 0 < len(value) <= length:
            raise expected(path, f"{what} of 1 to {length} characters", value)
        if not is_storable(value):
            raise expected(path, f"{what} without NUL and lone surrogates", value)
        return value

    return parse


def queue_name(value: Any, path: str) -> str:
    """Accept the name of a queue."""
    if not is_queue_name(value):
        raise expected(path, f"a queue name ({QUEUE_NAME})", value)
    return str(value)


def or_none(parser: Parser) -> Parser:
    """Accept None, or what the parser accepts."""
    return lambda value, path: None if value is None else parser(value, path)


def positional(value: Any, path: str) -> tuple[Any, ...]:
    """Accept a list of positional arguments; whether they are JSON is asked elsewhere."""
    if not isinstance(value, list | tuple):
        raise expected(path, "a list of positional arguments", value)
    return tuple(value)


def named(value: Any, path: str) -> dict[str, Any]:
    """Accept a dict of keyword arguments; whether they are JSON is asked elsewhere."""
    if not isinstance(value, Mapping):
        raise expected(path, "a dict of keyword arguments", value)
    return dict(value)
