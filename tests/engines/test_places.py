"""Two connections to one database say the same place, whatever their settings are."""

import pytest

from dj_queue.engines.places import place_of
from dj_queue.routers import QueueDatabase
from tests.jobs import EVERY

pytestmark = pytest.mark.django_db(**EVERY)


def test_a_place_does_not_depend_on_the_time_zone_of_the_connection(db: QueueDatabase):
    if db.vendor != "postgresql":
        pytest.skip("needs a time zone of the session that casts to text obey")
    with db.cursor() as cursor:
        places = []
        for name in ("UTC", "Asia/Kathmandu"):
            cursor.execute("SELECT set_config('TimeZone', %s, true)", [name])
            places.append(place_of(db))

    assert places[0] is not None
    assert places[0] == places[1]
