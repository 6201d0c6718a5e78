import time
import pytest
from dj_queue.models import ClaimedExecution, ScheduledExecution, FailedExecution
from dj_queue.models.ids import new_id
from dj_queue.runtime.dispatcher import Dispatcher
from tests.jobs import EVERY, NOW, in_state
from tests.runtime.units import registered
pytestmark = pytest.mark.django_db(transaction=True, **EVERY)
def test_it(db):
    for _ in range(10):
        in_state(db, ScheduledExecution, 10000)
    db.objects(ScheduledExecution).update(run_after=NOW)
    in_state(db, ClaimedExecution, 1, max_attempts=1)
    db.objects(ClaimedExecution).update(process_id=new_id())
    d = Dispatcher(registered(db))
    for duty in d.duties:
        owner = getattr(getattr(duty, "work", None) or duty.step, "__self__", None)
        if owner.__class__.__name__ == "LostProcesses":
            owner.confirm_seconds = 0; owner.look_seconds = 0
            duty.interval_seconds = 1
    start = time.monotonic(); batches = 0
    while not db.objects(FailedExecution).exists():
        d.poll(); batches += 1
        if time.monotonic() - start > 300: break
    print("RECOVERED after", round(time.monotonic() - start, 2), "s, polls", batches, "left", db.objects(ScheduledExecution).count())
