"""Column types that mean the same on every vendor: exact names, times in UTC, JSON as text."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from django.db import models

from dj_queue import timezone
from dj_queue.exceptions import NotSerializable
from dj_queue.parsers import FIRST_YEAR, LAST_YEAR, NAME_LENGTH
from dj_queue.quoting import quoted, quoted_error, quoted_with_type

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

DEEPEST = 100
"""Levels of lists and dicts; Python's own limit differs by version and by the stack at hand."""
LONGEST_BITS = 13_900
LONGEST_PATH = 300
FIRST_MOMENT = datetime(FIRST_YEAR, 1, 1) - timedelta(days=1)
LAST_MOMENT = datetime(LAST_YEAR + 1, 1, 1) + timedelta(days=1)
"""In UTC the years of other time zones begin and end up to a day apart."""

BYTES = (bytes, bytearray, memoryview)
REMEDIES: tuple[tuple[tuple[type, ...], str], ...] = (
    ((models.Model,), "obj.pk"),
    ((models.QuerySet,), 'list(queryset.values_list("pk", flat=True))'),
    ((Set, Iterator), "list(value)"),
    (BYTES, "value.hex()"),
)
"""What to give instead of values of these types; of any other str(value)."""

Path = str | tuple["Path", Any]
"""Where a value is: "args", or the path of what it is in and its key or index there."""

# json.dumps builds an encoder for each call.
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class NameField(models.CharField):
    """A queue's or backend's name, compared byte by byte.

    MySQL's and MariaDB's default collations take "Email" and "email" for the same queue; a binary
    one is asked for there. This is storage, so it is the one look at the vendor outside engines.
    """

    COLLATIONS = {"mysql": "utf8mb4_bin"}

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("max_length", NAME_LENGTH)
        super().__init__(**kwargs)

    def db_parameters(self, connection: BaseDatabaseWrapper) -> Any:
        parameters = super().db_parameters(connection)
        return {**parameters, "collation": self.COLLATIONS.get(connection.vendor)}


class UTCDateTimeField(models.DateTimeField):
    """A time stored in UTC and read as an aware datetime, whatever USE_TZ and TIME_ZONE are.

    Django's own field gives naive datetimes where USE_TZ is off. MySQL and SQLite then store the
    local time of whoever writes, or with USE_TZ that of the database's TIME_ZONE. A queue is shared
    by hosts that need not agree on either, and a local time occurs twice when clocks are set back.
    """

    def from_db_value(
        self, value: datetime | None, expression: object, connection: BaseDatabaseWrapper
    ) -> datetime | None:
        if value is None or value.tzinfo is UTC:
            return value
        if not connection.features.supports_timezones:
            # With USE_TZ Django has labelled it with the time zone of the connection.
            return value.replace(tzinfo=UTC)
        if value.tzinfo is None:
            # Without USE_TZ Django cuts off the time zone of the session, and leaves `fold`.
            value = value.replace(tzinfo=ZoneInfo(connection.timezone_name))
        return value.astimezone(UTC)

    def get_prep_value(self, value: Any) -> Any:
        value = super().get_prep_value(value)
        return timezone.to_utc(value) if isinstance(value, datetime) else value

    def get_db_prep_value(
        self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False
    ) -> Any:
        if not prepared:
            value = self.get_prep_value(value)
        if isinstance(value, datetime) and not connection.features.supports_timezones:
            value = value.replace(tzinfo=None)
        return super().get_db_prep_value(value, connection, prepared=True)

    def value_to_string(self, obj: models.Model) -> str:
        value: Any = self.value_from_object(obj)
        return "" if value is None else timezone.to_utc(value).isoformat()


class MomentField(UTCDateTimeField):
    """A moment that users choose.

    What lies beyond the calendar is read as its nearest end, or one such row would spoil every list
    that it is in: PostgreSQL keeps moments that Python has none for, and the last hours of Python's
    own are over in some time zones.
    """

    def deconstruct(self) -> Any:
        # To a migration it is the plain field: the column is the same.
        name, _, args, kwargs = super().deconstruct()
        return name, f"{__name__}.UTCDateTimeField", args, kwargs

    def select_format(self, compiler: Any, sql: str, params: Any) -> tuple[str, Any]:
        if compiler.connection.vendor != "postgresql":
            return sql, params
        return readable_moment(sql), (*params, *params, *params)

    def from_db_value(
        self, value: datetime | None, expression: object, connection: BaseDatabaseWrapper
    ) -> datetime | None:
        if value is not None and not FIRST_YEAR <= value.year <= LAST_YEAR:
            ends = (each.replace(tzinfo=value.tzinfo) for each in (FIRST_MOMENT, LAST_MOMENT))
            first, last = ends
            value = min(max(first, value), last)
        return super().from_db_value(value, expression, connection)


def readable_moment(sql: str) -> str:
    """Return PostgreSQL's expression of a moment within the calendar."""
    first, last = (f"TIMESTAMPTZ '{each}+00'" for each in (FIRST_MOMENT, LAST_MOMENT))
    return f"CASE WHEN {sql} < {first} THEN {first} WHEN {sql} > {last} THEN {last} ELSE {sql} END"


class JSONTextField(models.TextField):
    """A JSON value stored as its text.

    The vendors' own JSON types reorder keys, round large numbers or refuse NUL; text comes back
    as it went in, is searched alike everywhere, and moves between vendors unchanged.
    """

    def from_db_value(self, value: str | None, *_: object) -> Any:
        return None if value is None else _decoded(value)

    def get_prep_value(self, value: Any) -> str:
        return encode_json(value)

    def to_python(self, value: Any) -> Any:
        """Return the value of a serializer: text is what `value_to_string` gave."""
        return _decoded(value) if isinstance(value, str) else value

    def value_to_string(self, obj: models.Model) -> str:
        # In ASCII: XML has no place for control characters, and takes some other ones for others.
        return json.dumps(self.value_from_object(obj), separators=(",", ":"))

    def clean(self, value: Any, model_instance: models.Model | None) -> Any:
        # Not by to_python: a row in hand has the value itself, and text may look like JSON.
        self.validate(value, model_instance)
        self.run_validators(value)
        return value


class UnreadableText(str):
    """What a column held that should have held JSON."""


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        # Not an error here: one forged row would keep its whole batch from being claimed.
        return UnreadableText(text)


def encode_json(value: Any) -> str:
    """Return compact JSON text of an already normalised value."""
    return _encode(value)


def normalize_json(value: Any, path: str) -> Any:
    """Return `value` as JSON would give it back, or raise NotSerializable naming the part.

    As Django's Tasks do, tuples become lists and bytes text; unlike them, what would not come back
    the same on every vendor and Python is refused: keys that are no strings, NaN and infinities,
    text that UTF-8 cannot carry, numbers of more than 4,200 digits, more than 100 levels.
    """
    return _normalized(value, path, 0)


def _normalized(value: Any, path: Path, depth: int) -> Any:
    if depth > DEEPEST:
        raise NotSerializable(f"{_at(path)}: expected at most {DEEPEST} levels, got more")
    # By type(), not isinstance(): a lazy object is evaluated when it is asked for its class. Of
    # subclasses the plain type's own methods: an enum's may give something else.
    kind = type(value)
    if value is None or kind is bool:
        return value
    if issubclass(kind, str):
        return _text(str.__str__(value), path)
    if issubclass(kind, int):
        return _whole(int.__int__(value), path)
    if issubclass(kind, float) and math.isfinite(value):
        return float.__float__(value)
    if issubclass(kind, BYTES):
        return _decoded_bytes(value, path)
    # Plain types first: asking an abstract one costs several times as much.
    if issubclass(kind, dict) or issubclass(kind, Mapping):
        items = value.items() if kind is dict else _read(value, path)
        return {_key(k, path): _normalized(v, (path, k), depth + 1) for k, v in items}
    if issubclass(kind, list | tuple) or issubclass(kind, Sequence):
        listed = value if kind in (list, tuple) else _read(value, path)
        return [_normalized(item, (path, i), depth + 1) for i, item in enumerate(listed)]
    raise _refusal(value, path)


def _read(value: Any, path: Path) -> list[Any]:
    """Return the items of a mapping or sequence whose methods may be anybody's code."""
    try:
        if issubclass(type(value), Mapping):
            return [(k, v) for k, v in value.items()]
        return list(value)
    except Exception as error:
        raise NotSerializable(
            f"{_at(path)}: expected a JSON value, got {quoted(value)}, which raised "
            f"{quoted_error(error)}"
        ) from error


def _refusal(value: Any, path: Path) -> NotSerializable:
    at = _at(path)
    remedy = next(
        (text for kinds, text in REMEDIES if issubclass(type(value), kinds)), "str(value)"
    )
    verb = "return" if at.startswith("return") else "pass"
    return NotSerializable(
        f"{at}: expected a JSON value, got {quoted_with_type(value)}; {verb} {remedy}"
    )


def _at(path: Path) -> str:
    """Return a path as text, cut."""
    keys = []
    while isinstance(path, tuple):
        path, key = path
        keys.append(f"[{quoted(key)}]")
    text = path + "".join(reversed(keys))
    return text if len(text) <= LONGEST_PATH else f"{text[:LONGEST_PATH]}…"


def _key(key: Any, path: Path) -> str:
    if issubclass(type(key), str):
        return _text(str.__str__(key), path)
    raise NotSerializable(f"{_at(path)}: expected keys to be str, got {quoted_with_type(key)}")


def _text(text: str, path: Path) -> str:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise NotSerializable(
                f"{_at(path)}: expected text that UTF-8 can carry, got {quoted(text)}"
            ) from None
    return text


def _decoded_bytes(value: Any, path: Path) -> str:
    if issubclass(type(value), bytes):
        with suppress(UnicodeDecodeError):
            return bytes.decode(value)
    raise _refusal(value, path)


def _whole(number: int, path: Path) -> int:
    # Python refuses to write, and to read, numbers of more than 4,300 digits.
    if number.bit_length() > LONGEST_BITS:
        raise NotSerializable(
            f"{_at(path)}: expected at most 4,200 digits, got a number of "
            f"{number.bit_length()} bits"
        )
    return number
