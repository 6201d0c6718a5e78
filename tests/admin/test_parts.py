"""Formats, tables and charts: the parts that pages are made of."""

from datetime import UTC, datetime, timedelta

import pytest
from django.http import QueryDict
from django.test import override_settings

from dj_queue.admin import charts, formats
from dj_queue.admin.tables import Cell, Column, TableQuery, table_of
from dj_queue.observability.minutes import HOUR, Series, Step

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0, "0.0 s"),
        (1.25, "1.2 s"),
        (59.9, "59.9 s"),
        (60, "1 min"),
        (65.4, "1 min 5 s"),
        (3600, "1 h"),
        (4426, "1 h 13 min"),
        (86_400, "1 d"),
        (100_000, "1 d 3 h"),
    ],
)
def test_durations_are_what_a_person_wants(seconds, text):
    assert formats.duration(seconds) == text
    assert formats.exact(seconds) == ("" if seconds is None else f"{seconds:.1f} s")


@override_settings(TIME_ZONE="Europe/Berlin")
def test_times_are_those_of_the_project():
    assert formats.moment(NOON) == "2026-01-01 13:00:00"
    assert formats.moment(None) == "-"


def asked(query, name="things"):
    columns = [
        Column("letter", lambda row: Cell(row[0]), lambda row: row[0]),
        Column("number", lambda row: Cell(str(row[1])), lambda row: row[1]),
        Column("plain", lambda row: Cell("")),
    ]
    return TableQuery(name, columns, QueryDict(query))


ROWS = [("b", 1), ("a", None), ("c", 1), ("a", 2)]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ROWS),
        ("things_sort=1", [("a", None), ("a", 2), ("b", 1), ("c", 1)]),
        ("things_sort=-1", [("c", 1), ("b", 1), ("a", None), ("a", 2)]),
        ("things_sort=2.1", [("b", 1), ("c", 1), ("a", 2), ("a", None)]),
        ("things_sort=-2.-1", [("a", 2), ("c", 1), ("b", 1), ("a", None)]),
        ("things_sort=3", ROWS),
        ("others_sort=1", ROWS),
    ],
)
def test_rows_are_sorted_as_asked_and_what_is_missing_comes_last(query, expected):
    table = table_of(asked(query), ROWS, size=10, empty="none")

    assert list(table.page.object_list) == expected


def test_headers_sort_turn_round_and_step_back():
    letter, number, plain = asked("things_sort=-2.1&x=1&things_page=3").headers()

    assert (letter.priority, number.priority, plain.priority) == (2, 1, 0)
    assert (letter.is_descending, number.is_descending) == (False, True)
    assert letter.sort_url == "?x=1&things_sort=-1.-2"
    assert number.sort_url == "?x=1&things_sort=2.1"
    assert letter.toggle_url == "?x=1&things_sort=-2.-1"
    assert letter.remove_url == "?x=1&things_sort=-2"
    assert plain.sort_url == ""


def test_pages_keep_the_rest_of_the_query():
    table = table_of(asked("things_page=2&x=1"), range(25), size=10, empty="none")

    assert table.pages == [("1", "?x=1&things_page=1"), ("2", ""), ("3", "?x=1&things_page=3")]
    assert table.count == "25 results"
    assert table_of(asked(""), [1], size=10, empty="none").count == "1 result"
    assert table_of(asked(""), [1], size=10, empty="none").pages == []


def series(queue, *steps):
    return Series(
        queue,
        HOUR,
        [Step(NOON + timedelta(minutes=n), *step) for n, step in enumerate(steps)],
    )


def test_bars_stand_on_each_other_and_fill_the_height():
    chart = charts._throughput(series("mail", (3, 1, 0.5), (0, 0, None), (8, 0, 0.1)))

    finished, failed, highest = chart.bars
    assert (finished.tone, failed.tone) == ("finished", "failed")
    assert finished.y + finished.height == charts.HEIGHT
    assert failed.y + failed.height == finished.y
    assert (highest.height, highest.y) == (charts.HEIGHT, 0)
    assert chart.summary == "11 finished, 1 failed"
    assert "3 finished, 1 failed" in finished.title


def test_a_curve_has_gaps_where_nothing_ended():
    mail = series("mail", (1, 0, 2.0), (0, 0, None), (1, 0, 90.0))

    chart = charts._latency(mail, [(mail, "line-1")])

    (line,) = chart.lines
    assert (line.name, len(line.pieces), line.peak) == ("mail", 2, "1 min 30 s")
    assert chart.summary == "longest mean wait 1 min 30 s"


def test_a_queue_has_one_colour_in_the_hour_and_the_day(monkeypatch):
    wait = (1, 0, 2.0)
    mail, post, others = (series(name, wait) for name in ("mail", "post", "others"))
    spans = iter([(others, [mail, post]), (others, [others, post, mail])])
    monkeypatch.setattr(charts, "read_series", lambda *_, **__: next(spans))

    _, hour, _, day = charts.charts_of(None, now=NOON)

    assert [(line.name, line.tone) for line in hour.lines] == [
        ("mail", "line-1"),
        ("post", "line-2"),
    ]
    assert [(line.name, line.tone) for line in day.lines] == [
        ("mail", "line-1"),
        ("post", "line-2"),
        ("others", "line-3"),
    ]


def test_nothing_to_draw_is_an_empty_picture():
    empty = series("mail", (0, 0, None))

    assert charts._throughput(empty).is_empty
    assert charts._latency(empty, []).is_empty
