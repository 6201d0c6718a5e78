"""What is accepted as JSON comes back from the database as it went in; the rest is refused."""

import json
import math
from collections import UserDict, deque
from datetime import datetime
from enum import IntEnum, StrEnum

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dj_queue.exceptions import NotSerializable
from dj_queue.models import Job
from dj_queue.models.fields import normalize_json
from tests.jobs import EVERY, build

pytestmark = pytest.mark.django_db(**EVERY)

# One function-scoped handle and one transaction serve all examples: each reads what it wrote.
ON_A_DATABASE = settings(
    max_examples=60,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

texts = st.text(max_size=20) | st.text(st.sampled_from('a\x00\x1f"\\%\u2028ü𝄞'), max_size=5)
numbers = (
    st.integers()
    | st.integers(-(10**400), 10**400)
    | st.floats(allow_nan=False, allow_infinity=False)
)
scalars = st.none() | st.booleans() | numbers | texts
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


class Colour(StrEnum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


def nested(depth):
    value = "deep"
    for number in range(depth):
        value = [value] if number % 2 else {"": value}
    return value


def stored(db, value):
    """Write a value into a job's arguments and read it back in a fresh row."""
    args, kwargs = normalize_json([value], "args"), normalize_json({"k": value}, "kwargs")
    job = build(db, args=args, kwargs=kwargs)
    db.objects(Job).bulk_create([job])
    row = db.objects(Job).get(pk=job.pk)
    assert row.kwargs == {"k": row.args[0]} or row.args != row.args
    return row.args[0]


def same(a, b):
    """Compare strictly: 1, 1.0 and True are three things, and the order of keys counts."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float):
        return a == b and math.copysign(1, a) == math.copysign(1, b)
    return a == b


@given(value=values)
@example("\x00")
@example({"\x00": "\x00\x01\x7f", "": None})
@example(["𝄞", "\\ud800", "\u2028\u2029"])
@example(2**63)
@example([-(2**64), 10**4000, 0.1, 1e308, 5e-324, -0.0, 1e22, 1.0])
@example({"b": 1, "a": 2, "A": 3, " a": 4, "a ": 5})
@example(nested(98))
@example("x" * 100_000)
@example("'; DROP TABLE dj_queue_job; -- %s %% {} \\")
@ON_A_DATABASE
def test_a_value_comes_back_as_it_was(db, value):
    assert same(stored(db, value), value)


@given(
    value=st.recursive(
        scalars,
        lambda inner: (
            st.tuples(inner, inner) | st.dictionaries(texts, inner, max_size=3).map(UserDict)
        ),
        max_leaves=8,
    )
)
@example(b"bytes \xc3\xbc")
@example(range(3))
@example(deque([1, (2,)]))
@example([Colour.RED, Level.HIGH])
@ON_A_DATABASE
def test_what_is_normalised_stays_as_normalised(db, value):
    normalised = normalize_json(value, "args")

    assert stored(db, value) == normalised
    assert same(normalize_json(normalised, "args"), normalised)
    assert json.loads(json.dumps(normalised)) == normalised


# Each with the path that the message must begin with.
REFUSED = {
    "args[0]['when']": [{"when": datetime(2026, 1, 1)}],
    "args[1]": [1, math.nan],
    "args['a']['b'][2]": {"a": {"b": [0, 1, -math.inf]}},
    "args": object(),
    "args['x']": {"x": {1, 2}},
    "args[0]": [bytearray(b"x")],
    "args['k']": {"k": {1: "a number as key"}},
    "args[0][0]": [[{None: 0}]],
    "args[2]": ["", "", 1j],
    "args['bytes'][0]": {"bytes": [b"\xff"]},
    "args[0]['half']": [{"half": "\ud800"}],
    "args['key']": {"key": {"\udc80": 1}},
    "args[1][0]": [1, ["\ud83d\ude00"]],
    "args['long']": {"long": 10**4300},
}


@pytest.mark.parametrize(("path", "value"), REFUSED.items(), ids=REFUSED)
def test_what_would_not_come_back_is_refused_with_its_path(path, value):
    with pytest.raises(NotSerializable) as caught:
        normalize_json(value, "args")

    assert str(caught.value).startswith(f"{path}: expected ")


def test_a_value_that_contains_itself_is_refused():
    value = []
    value.append(value)

    with pytest.raises(NotSerializable, match=r"^args(\[0\])+.*…: expected at most 100 levels"):
        normalize_json(value, "args")


def test_the_deepest_value_and_the_longest_number_are_accepted():
    assert normalize_json(nested(100), "args") == nested(100)
    assert normalize_json(-(10**4100), "args") == -(10**4100)
    with pytest.raises(NotSerializable, match="expected at most 100 levels, got more"):
        normalize_json(nested(101), "args")


@given(
    value=st.recursive(
        scalars | st.sampled_from([math.nan, math.inf, b"\xff", 1j, object(), {1}, datetime.min]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.tuples(inner)
            | st.dictionaries(texts | st.integers(), inner, max_size=3)
        ),
        max_leaves=10,
    )
)
@ON_A_DATABASE
def test_whatever_is_given_comes_back_or_is_refused_with_a_path(db, value):
    try:
        normalised = normalize_json([value], "args")
    except NotSerializable as refusal:
        assert str(refusal).startswith("args")  # noqa: PT017 - both outcomes are right
    else:
        assert same(stored(db, value), normalised[0])
