"""Failure: what a task raised, as text that every vendor can store, whatever its str() does."""

from __future__ import annotations

import re
from dataclasses import dataclass
from traceback import format_exception

from dj_queue.quoting import text_of

PATH_LENGTH = 255
MESSAGE_LENGTH = 10_000
TRACEBACK_LENGTH = 100_000
UNSTORABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True)
class Failure:
    """What an attempt raised, as text that every vendor can store."""

    exception_path: str
    message: str
    traceback: str

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """Describe an exception; its own str() may fail without harm."""
        kind = type(error)
        try:
            trace = "".join(format_exception(error))
        except BaseException as unprintable:
            trace = f"<the traceback could not be formatted: {type(unprintable).__name__}>"
        return cls(
            _clean(f"{kind.__module__}.{kind.__qualname__}")[:PATH_LENGTH],
            _storable(text_of(error), MESSAGE_LENGTH),
            _storable(trace, TRACEBACK_LENGTH),
        )

    def in_ascii(self) -> Failure:
        """Return the same, escaped, for a database that cannot store every character."""
        return Failure(
            _ascii(self.exception_path)[:PATH_LENGTH], _ascii(self.message), _ascii(self.traceback)
        )


def _storable(text: str, length: int) -> str:
    clean = _clean(text)
    return clean if len(clean) <= length else f"{clean[: length // 2]}\n…\n{clean[-length // 2 :]}"


def _clean(text: str) -> str:
    # PostgreSQL stores no NUL, no driver encodes a lone surrogate, and dumpdata writes none of
    # these to XML.
    return UNSTORABLE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


def _ascii(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode("ascii")
