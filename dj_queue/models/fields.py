"""Column types that mean the same on every vendor: exact names and JSON kept as text."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from django.db import models

from dj_queue.conf import NAME_LENGTH
from dj_queue.exceptions import NotSerializable

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper


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


class JSONTextField(models.TextField):
    """A JSON value stored as its text.

    The vendors' own JSON types reorder keys, round large numbers or refuse NUL; text comes back
    as it went in, is searched alike everywhere, and moves between vendors unchanged.
    """

    def from_db_value(self, value: str | None, *_: object) -> Any:
        return None if value is None else json.loads(value)

    def get_prep_value(self, value: Any) -> str:
        return encode_json(value)

    def to_python(self, value: Any) -> Any:
        return value

    def value_to_string(self, obj: models.Model) -> str:
        return encode_json(self.value_from_object(obj))


def encode_json(value: Any) -> str:
    """Return compact JSON text of an already normalised value."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    try:
        text.encode()
    except UnicodeEncodeError:  # A lone surrogate has no UTF-8 form, but an escaped one.
        text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text


def normalize_json(value: Any, path: str) -> Any:
    """Return `value` as JSON would give it back, or raise NotSerializable naming the part.

    As Django's Tasks do, tuples become lists and bytes text; unlike them, keys that are no
    strings, NaN and infinities are refused, because they would not come back.
    """
    try:
        normalized = _normalize(value, path)
        encode_json(normalized)
    except RecursionError:
        raise NotSerializable(f"{path}: expected a JSON value, got one nested too deep") from None
    except ValueError as error:
        if isinstance(error, NotSerializable):
            raise
        raise NotSerializable(f"{path}: expected a JSON value, got {error}") from error
    return normalized


def _normalize(value: Any, path: str) -> Any:
    match value:
        case None | bool():
            return value
        # The plain type's own methods: an enum's or a subclass's may give something else.
        case str():
            return str.__str__(value)
        case int():
            return int.__int__(value)
        case float() if math.isfinite(value):
            return float.__float__(value)
        case bytes():
            with suppress(UnicodeDecodeError):
                return value.decode()
        case Mapping():
            return {_key(k, path): _normalize(v, f"{path}[{k!r}]") for k, v in value.items()}
        case Sequence() if not isinstance(value, bytearray | memoryview):
            return [_normalize(item, f"{path}[{i}]") for i, item in enumerate(value)]
    raise NotSerializable(f"{path}: expected a JSON value, got {value!r} ({type(value).__name__})")


def _key(key: Any, path: str) -> str:
    if isinstance(key, str):
        return key
    raise NotSerializable(f"{path}: expected keys to be str, got {key!r} ({type(key).__name__})")
