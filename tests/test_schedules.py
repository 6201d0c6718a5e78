"""Schedules by the clock of a time zone, where it is changed above all."""

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise, takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dj_queue.exceptions import InvalidSchedule
from dj_queue.schedules import instants_after, last_until, next_after, validate

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)

# Half a day before a change of the clock: forward and back in three zones, one of them by half an
# hour; forward and back at midnight; and a whole day that was left out.
CHANGES = {
    "Berlin forward": ("Europe/Berlin", datetime(2026, 3, 28, 13, tzinfo=UTC)),
    "Berlin back": ("Europe/Berlin", datetime(2026, 10, 24, 13, tzinfo=UTC)),
    "New York forward": ("America/New_York", datetime(2026, 3, 7, 19, tzinfo=UTC)),
    "New York back": ("America/New_York", datetime(2026, 10, 31, 18, tzinfo=UTC)),
    "Lord Howe forward": ("Australia/Lord_Howe", datetime(2026, 10, 3, 3, tzinfo=UTC)),
    "Lord Howe back": ("Australia/Lord_Howe", datetime(2026, 4, 4, 3, tzinfo=UTC)),
    "Sao Paulo forward": ("America/Sao_Paulo", datetime(2018, 11, 3, 15, tzinfo=UTC)),
    "Sao Paulo back": ("America/Sao_Paulo", datetime(2019, 2, 16, 14, tzinfo=UTC)),
    "Apia left a day out": ("Pacific/Apia", datetime(2011, 12, 29, 22, tzinfo=UTC)),
}


def clock(instant, zone):
    return instant.astimezone(ZoneInfo(zone)).replace(tzinfo=None)


def shown(instants, zone="Europe/Berlin"):
    return [instant.astimezone(ZoneInfo(zone)).strftime("%d %H:%M%z") for instant in instants]


def first(count, schedule, start, zone="Europe/Berlin"):
    return list(islice(instants_after(schedule, zone, start), count))


def walked(hours, minutes, zone, start, end):
    """Give the instants of a schedule by looking at the clock each minute."""
    looks = [start + MINUTE * n for n in range(1, (end - start) // MINUTE + 1)]
    if len(hours) == 24:
        return [each for each in looks if clock(each, zone).minute in minutes]
    day = clock(start, zone).replace(hour=0, minute=0)
    times = [
        day + timedelta(days=days, hours=hour, minutes=minute)
        for days in range(4)
        for hour in hours
        for minute in minutes
    ]
    # Not from the start: what the clock has shown before it has come before it.
    before = [start - MINUTE * n for n in range(2 * 24 * 60, -1, -1)]
    reached = (
        next((look for look in (*before, *looks) if clock(look, zone) >= time), end + MINUTE)
        for time in times
    )
    return sorted({each for each in reached if start < each <= end})


@settings(deadline=None)  # it looks at the clock each minute of days
@given(
    st.sampled_from(list(CHANGES)),
    st.one_of(
        st.just(frozenset(range(24))),
        st.frozensets(st.integers(0, 23), min_size=1, max_size=4),
        st.frozensets(st.sampled_from([0, 1, 2, 3, 23]), min_size=1),
    ),
    st.frozensets(st.sampled_from([0, 1, 15, 29, 30, 31, 45, 59]), min_size=1, max_size=3),
    st.integers(0, 24 * 60),
)
def test_instants_are_those_that_somebody_finds_who_looks_at_the_clock(
    change, hours, minutes, offset
):
    zone, start = CHANGES[change]
    start, end = start + MINUTE * offset, start + timedelta(hours=30)
    schedule = f"{','.join(map(str, sorted(minutes)))} {','.join(map(str, sorted(hours)))} * * *"

    found = list(takewhile(lambda each: each <= end, instants_after(schedule, zone, start)))

    assert found == walked(hours, minutes, zone, start, end)


def test_a_daily_time_that_does_not_exist_comes_at_the_end_of_the_gap():
    start = CHANGES["Berlin forward"][1]

    assert shown(first(2, "30 2 * * *", start)) == ["29 03:00+0200", "30 02:30+0200"]
    # Several of one gap are one instant.
    assert shown(first(2, "10,20,30 2 * * *", start)) == ["29 03:00+0200", "30 02:10+0200"]


def test_a_daily_time_that_occurs_twice_comes_the_first_time():
    start = CHANGES["Berlin back"][1]

    assert shown(first(2, "30 2 * * *", start)) == ["25 02:30+0200", "26 02:30+0100"]


def test_an_hourly_schedule_comes_every_real_hour():
    for change in ("Berlin forward", "Berlin back", "New York forward", "New York back"):
        zone, start = CHANGES[change]
        found = first(24, "30 * * * *", start, zone)

        assert {b - a for a, b in pairwise(found)} == {timedelta(hours=1)}


def test_seconds_are_the_sixth_field():
    assert first(3, "* * * * * */20", NOW) == [NOW + timedelta(seconds=n) for n in (20, 40, 60)]
    assert first(1, "* * * * * *", NOW + timedelta(seconds=0.5)) == [NOW + timedelta(seconds=1)]


@pytest.mark.parametrize(
    ("schedule", "comes"),
    [
        ("@daily", "02 00:00+0100"),
        ("@hourly", "01 14:00+0100"),
        ("0 6 L * *", "31 06:00+0100"),
        ("0 6 * * 5#2", "09 06:00+0100"),
        ("0 6 15W * *", "15 06:00+0100"),
        ("0 6 * jan mon-fri", "02 06:00+0100"),
        ("0 6 * * 7", "04 06:00+0100"),
    ],
)
def test_what_croniter_knows_is_known(schedule, comes):
    validate(schedule, "Europe/Berlin", now=NOW)

    assert shown(first(1, schedule, NOW)) == [comes]


@pytest.mark.parametrize(
    ("schedule", "why"),
    [
        ("", "Exactly 5, 6 or 7 columns"),
        ("0 3 * *", "Exactly 5, 6 or 7 columns"),
        ("61 * * * *", "out of range"),
        ("*/0 * * * *", "step '0'"),
        ("every day", "Exactly 5"),
        ("@reboot", "Exactly 5"),
        ("H * * * *", "hash_id"),
        ("R * * * *", "R is another time at every look"),
        ("0 1,r(2-4) * * *", "R is another time at every look"),
        (None, "it is a NoneType"),
        (5, "it is a int"),
        ("0 0 30 2 *", "comes some day"),
        ("0 0 1 1 * 0 2020", "comes some day"),
        ("0 0 * * " + "1," * 150 + "1", "at most 255 characters"),
    ],
)
def test_a_schedule_that_croniter_refuses_or_that_never_comes_is_refused(schedule, why):
    with pytest.raises(InvalidSchedule) as refused:
        validate(schedule, "UTC", now=NOW)

    assert why in str(refused.value)


@pytest.mark.parametrize(
    "zone", ["Europe/Nowhere", "", "../etc/passwd", "Europe", None, "CET+1\x00"]
)
def test_an_unknown_time_zone_is_refused(zone):
    with pytest.raises(InvalidSchedule, match="expected a time zone of the IANA database"):
        validate("* * * * *", zone, now=NOW)


def test_a_schedule_with_a_year_ends():
    found = list(instants_after("0 0 1 1 * 0 2027", "UTC", NOW))

    assert found == [datetime(2027, 1, 1, tzinfo=UTC)]
    assert next_after("0 0 1 1 * 0 2027", "UTC", found[0]) is None


@settings(deadline=None)
@given(
    st.sampled_from(["* * * * *", "0 * * * *", "30 2 * * *", "0 0 * * 1", "* * * * * */7"]),
    st.sampled_from(sorted(CHANGES)),
    st.integers(0, 3 * 24 * 3600),
)
def test_the_last_instant_is_found_without_walking(schedule, change, seconds):
    zone, start = CHANGES[change]
    earliest = next_after(schedule, zone, start)
    until = earliest + timedelta(seconds=seconds, microseconds=seconds % 3)

    last = last_until(schedule, zone, first=earliest, until=until)

    assert earliest <= last <= until
    assert next_after(schedule, zone, last) > until
    assert last == earliest or next_after(schedule, zone, last - timedelta(seconds=1)) == last
