"""Selectors: whatever queues, pauses and selectors there are, a claim is in claim order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dj_queue.conf import is_queue_name
from dj_queue.engines import ClaimEngine, engine_for
from dj_queue.engines.claims import Holder
from dj_queue.engines.selectors import distinct_selectors, turns_of
from dj_queue.models import Job, ReadyExecution
from dj_queue.models.ids import new_id
from dj_queue.operations.pauses import pause
from dj_queue.routers import QueueDatabase
from tests.engines.reading import undone
from tests.jobs import EVERY, ME, NOW, build

HOLDER = Holder(ME, new_id(), NOW)
# Few letters, so that names are each other's beginnings; and what a statement might trip over.
NAMES = st.text("aAbé'\"%_\\*? 😀-", min_size=1, max_size=4).filter(is_queue_name)


@dataclass(frozen=True)
class Situation:
    """Queues and whether each is paused, the selectors of a worker, and some jobs."""

    paused: Mapping[str, bool]
    selectors: Sequence[str]
    jobs: Sequence[tuple[str, int]] = ()
    limit: int = 100

    def rank(self, name: str) -> int | None:
        """Give the place of the first selector that means the queue; None if it is not served."""
        if self.paused[name]:
            return None
        places = [place for place, each in enumerate(self.selectors) if means(each, name)]
        return min(places, default=None)


def means(selector: str, name: str) -> bool:
    """Say it once more, another way: this is what the package is compared with."""
    if selector[-1] == "*":
        return name[: len(selector) - 1] == selector[:-1]
    return name == selector


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    paused = draw(st.dictionaries(NAMES, st.booleans(), min_size=1, max_size=6))
    queues = st.sampled_from(sorted(paused))
    prefixes = st.builds(lambda name, size: name[:size].strip(), queues, st.integers(1, 3))
    wildcards = prefixes.filter(is_queue_name).map("{}*".format)
    selectors = draw(st.lists(queues | wildcards | NAMES | st.just("*"), min_size=1, max_size=6))
    jobs = draw(
        st.lists(st.tuples(queues, st.integers(-2, 2) | st.just(100)), min_size=1, max_size=30)
    )
    return Situation(paused, selectors, jobs, draw(st.integers(1, 12)))


@given(situations())
def test_turns_are_those_of_the_first_selector_that_means_a_queue(situation):
    turns = turns_of(situation.selectors, situation.paused)

    served = {}
    for name in situation.paused:
        takes = [
            place
            for place, turn in enumerate(turns)
            if (name in turn.names if turn.names is not None else name not in turn.but)
        ]
        if takes:
            # Each queue in one turn only: a claim may lock those of a turn together.
            [served[name]] = takes
    ranks = {name: situation.rank(name) for name in situation.paused}
    ranks = {name: rank for name, rank in ranks.items() if rank is not None}
    assert served.keys() == ranks.keys()
    assert all(
        (served[one] < served[two]) == (ranks[one] < ranks[two]) for one in ranks for two in ranks
    )


@given(situations())
def test_selectors_left_out_would_have_changed_nothing(situation):
    distinct = distinct_selectors(situation.selectors)

    assert list(distinct) == [
        each for each in dict.fromkeys(situation.selectors) if each in distinct
    ]
    for name in situation.paused:
        before, after = (
            next((each for each in selectors if means(each, name)), None)
            for selectors in (situation.selectors, distinct)
        )
        assert before == after
    assert distinct_selectors(distinct) == distinct


@pytest.fixture(params=["own", "portable"])
def engine(request: pytest.FixtureRequest, db: QueueDatabase) -> ClaimEngine:
    """Give the vendor's engine, then the portable one."""
    return engine_for(db) if request.param == "own" else ClaimEngine()


def drained(db: QueueDatabase, engine: ClaimEngine, situation: Situation) -> list[Job]:
    """Claim until nothing comes; each claim but the last ones is full."""
    claimed: list[Job] = []
    while True:
        rows = engine.claim(db, situation.selectors, limit=situation.limit, holder=HOLDER)
        claimed += [row.job for row in rows]
        if len(rows) < situation.limit:
            assert not engine.claim(db, situation.selectors, limit=1, holder=HOLDER)
            return claimed


@pytest.mark.django_db(**EVERY)
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(situation=situations())
@example(Situation({"a": False, "b": True}, ["*"], [("a", 0), ("b", 9), ("a", 1)], limit=2))
@example(Situation({"a": False, "ab": False}, ["a*", "*"], [("ab", 0), ("a", 1)], limit=1))
@example(
    Situation(
        {"a": True, "ab": False, "b": False}, ["a", "a*", "b", "*"], [("a", 5), ("b", 1), ("ab", 0)]
    )
)
def test_claims_bring_all_that_may_run_in_claim_order(db, engine, situation):
    with undone(db):
        jobs = [build(db, queue_name=name, priority=level) for name, level in situation.jobs]
        engine.store(db, jobs, [])
        pause(db, [name for name, is_paused in situation.paused.items() if is_paused], now=NOW)

        claimed = drained(db, engine, situation)

        served = [job for job in jobs if situation.rank(job.queue_name) is not None]
        served.sort(key=lambda job: (situation.rank(job.queue_name), -job.priority, job.id))
        assert claimed == served
        left = set(db.objects(ReadyExecution).values_list("job_id", flat=True))
        assert left == {job.id for job in jobs} - {job.id for job in served}
