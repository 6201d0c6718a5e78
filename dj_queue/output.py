"""Output: a standard stream that is closed, full, or read by nobody any more ends no worker."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Any

from django.core.management.base import BaseCommand


class Output:
    """sys.stdout or sys.stderr, whatever that is by now; drops what it refuses with `spared`."""

    def __init__(self, name: str, spared: type[OSError] = OSError) -> None:
        self._name = name
        self._spared = spared

    def __getattr__(self, name: str) -> Any:
        return getattr(getattr(sys, self._name), name)

    def isatty(self) -> bool:
        """Tell whether people read it."""
        stream = getattr(sys, self._name)
        return stream is not None and bool(stream.isatty())

    def write(self, text: str) -> int:
        """Write, or drop."""
        stream = getattr(sys, self._name)
        if stream is not None:  # Where it was closed when Python started there is none.
            try:
                stream.write(text)
            except self._spared:
                _drop(stream)
        return len(text)

    def flush(self) -> None:
        """Write what waits, or drop it: Python would try again at its end, and fail."""
        stream = getattr(sys, self._name)
        if stream is not None:
            try:
                stream.flush()
            except self._spared:
                _drop(stream)


class OutputCommand(BaseCommand):
    """A command that does its work though nobody can read what it says of it."""

    spared: type[OSError] = OSError

    def __init__(self, stdout: Any = None, stderr: Any = None, **more: Any) -> None:
        own: list[Any] = [Output(name, self.spared) for name in ("stdout", "stderr")]
        super().__init__(stdout or own[0], stderr or own[1], **more)

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Execute, and write all that it said."""
        try:
            return super().execute(*args, **options)
        finally:
            self.stdout.flush()
            self.stderr.flush()


def flush() -> None:
    """Write what waits in both streams, or drop it; raises nothing."""
    for name in ("stdout", "stderr"):
        with suppress(Exception):  # Python's own stream may be replaced by anything.
            Output(name).flush()


def say(line: str) -> None:
    """Write a line to stderr for people; raises nothing."""
    with suppress(Exception):
        Output("stderr").write(f"{line}\n")


def _drop(stream: Any) -> None:
    """Empty a stream's buffer, which would be refused again; the stream stays where it leads."""
    with suppress(Exception):
        number = stream.fileno()
        kept, nowhere = os.dup(number), os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, number)
            stream.flush()
        finally:
            os.dup2(kept, number)
            os.close(kept)
            os.close(nowhere)
