"""Log events are lines of key=value that a program can take apart."""

import json
import logging
import re
from datetime import UTC, datetime

import pytest

from dj_queue.events import log

PAIR = re.compile(r' (\w+)=("(?:[^"\\]|\\.)*"|[^ "=]+)')
VALUES = [
    datetime(2026, 1, 1, 12, 0, 0, 5, UTC),
    "worker bulk #1",
    "a=b",
    'say "no"',
    "C:\\temp",
    "two\nlines",
    "a\u2028separator",
    "",
    "grün",
    repr(ValueError("server closed the connection\nunexpectedly")),
    None,
    7,
]


def line_of(caplog, **payload):
    caplog.set_level(logging.DEBUG, "dj_queue")
    log("loop_failed", **payload)
    return caplog.records[-1].getMessage()


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_line_can_be_split_into_its_pairs(caplog, value):
    line = line_of(caplog, before=1, value=value, after="x")

    assert len(line.splitlines()) == 1
    assert line.startswith("loop_failed ")
    pairs = PAIR.findall(line)
    assert [name for name, _ in pairs] == ["before", "value", "after"]
    assert "loop_failed" + "".join(f" {name}={text}" for name, text in pairs) == line
    text = pairs[1][1]
    expected = value.isoformat() if isinstance(value, datetime) else str(value)
    assert (json.loads(text) if text.startswith('"') else text) == expected


def test_what_needs_no_quotes_has_none(caplog):
    line = line_of(caplog, at=VALUES[0], error="builtins.ValueError", queues="mail,report*")

    assert line == (
        "loop_failed at=2026-01-01T12:00:00.000005+00:00 error=builtins.ValueError "
        "queues=mail,report*"
    )


def test_structured_handlers_get_the_values_themselves(caplog):
    line_of(caplog, at=VALUES[0])

    assert caplog.records[-1].payload == {"at": VALUES[0]}
