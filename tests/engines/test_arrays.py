"""Arrays as text come back as the values that went in."""

from datetime import UTC
from enum import Enum
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dj_queue.engines.arrays import array
from dj_queue.routers import queue_database
from tests.jobs import EVERY

pytestmark = pytest.mark.django_db(**EVERY)

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
VALUES = {
    "text": TEXT | st.sampled_from(["", "NULL", "{}", '"', "\\", ' a, "b" ']),
    "uuid": st.uuids(),
    "bool": st.booleans(),
    "int8": st.integers(-(2**63), 2**63 - 1),
    "float8": st.floats(allow_nan=False),
    "timestamptz": st.datetimes(timezones=st.just(UTC)),
}


class Colour(str, Enum):  # noqa: UP042 - StrEnum prints itself otherwise
    RED = "red"


@pytest.fixture
def db(vendor_by_alias):
    if vendor_by_alias["queue"] != "postgresql":
        pytest.skip("needs arrays: this database has none")
    return queue_database("default")


@pytest.mark.parametrize("kind", VALUES)
def test_what_is_written_as_an_array_is_read_as_these_values(db, settings, kind):
    settings.TIME_ZONE = "UTC"  # Where USE_TZ is off, Django gives naive times of it.
    same = {"uuid": lambda each: UUID(str(each)), "timestamptz": lambda at: at.replace(tzinfo=UTC)}
    as_given = same.get(kind, lambda each: each)

    @given(st.lists(VALUES[kind] | st.none()))
    def check(values):
        with db.cursor() as cursor:
            cursor.execute(f"SELECT %s::{kind}[]", [array(values)])
            [found] = cursor.fetchone()
        assert [each if each is None else as_given(each) for each in found] == values

    check()


def test_an_enum_that_is_a_text_is_written_as_that_text():
    assert array([Colour.RED]) == array(["red"])
