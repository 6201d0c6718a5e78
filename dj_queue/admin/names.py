"""Names of backends and queues as one segment of a path, whatever characters they have.

A browser takes `..` out of a path even when it is percent-encoded, and a server undoes `%2F` before
Django looks: so these are written in an escape of our own, `~2F`.
"""

from __future__ import annotations

import re

from django.urls import register_converter

UNSAFE = re.compile(r"[~/\\%?#;\x00-\x1f\x7f]|^\.")
ESCAPED = re.compile(r"~([0-9A-F]{2})")


class NameConverter:
    """`<dj_queue_name:queue>` in a path of Django's."""

    regex = "[^/]+"

    def to_python(self, value: str) -> str:
        """Return the name that a segment stands for; each name has one segment only."""
        name = ESCAPED.sub(lambda found: chr(int(found[1], 16)), value)
        if self.to_url(name) != value:
            raise ValueError(value)
        return name

    def to_url(self, value: str) -> str:
        """Return the segment that stands for a name."""
        return UNSAFE.sub(lambda found: f"~{ord(found[0]):02X}", value)


register_converter(NameConverter, "dj_queue_name")
