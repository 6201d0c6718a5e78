"""Outcomes for a finisher, and a finisher that records them and ends."""

import time

from dj_queue.operations.claim import claim
from dj_queue.operations.execute import execute
from dj_queue.runtime.finisher import Finisher
from tests.jobs import ME, NOW, store


def outcomes_of(db, count, **columns):
    store(db, count=count, **columns)
    claimed = claim(db, ["*"], limit=count, process_id=ME, now=NOW)
    return [execute(db, row, clock=lambda: NOW) for row in claimed]


def record(db, outcomes, seconds=20.0):
    """Hand in all outcomes before the finisher starts, then let it end."""
    finisher = Finisher(db)
    for outcome in outcomes:
        finisher.hand_in(outcome)
    finisher.start()
    finisher.stop(time.monotonic() + seconds)
    finisher.join(30)
    assert not finisher.is_alive()
    return finisher
