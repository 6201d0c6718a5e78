"""The ledger: what it says of a dead process is exactly what that held and had not started."""

import os
import signal
from uuid import UUID

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dj_queue.conf import WorkerOptions
from dj_queue.engines.claims import claim_of
from dj_queue.models import ClaimedExecution
from dj_queue.models.ids import new_id
from dj_queue.operations.recover import Unstarted
from dj_queue.routers import queue_database
from dj_queue.runtime.ledger import FIRST, Ledger
from dj_queue.runtime.prefetch import MOST_JOBS
from dj_queue.runtime.units import Unit

THREADS = 2
CAPACITY = MOST_JOBS + THREADS


def ledger_of(threads: int = THREADS) -> Ledger:
    db = queue_database("default")
    return Ledger(Unit("worker", db, "worker", WorkerOptions(threads=threads)))


def claims(count: int, job_id=None) -> list[ClaimedExecution]:
    """Build claims of so many jobs, or as many of one, under tokens of their own."""
    return [ClaimedExecution(job_id=job_id or new_id(), claim_token=new_id()) for _ in range(count)]


class LedgerMachine(RuleBasedStateMachine):
    """Whatever a worker does, the model is a set of claims and two tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = ledger_of()
        self.waiting: list[ClaimedExecution] = []
        self.gone: list[ClaimedExecution] = []
        self.token = self.heir = None
        self.process_id = None

    @rule(count=st.integers(0, 60))
    def enter(self, count: int) -> None:
        rows = claims(min(count, CAPACITY - len(self.waiting)))
        self.ledger.enter(rows)
        self.waiting += rows

    @precondition(lambda self: self.waiting)
    @rule(index=st.integers(0, CAPACITY))
    def enter_the_same_job_again(self, index: int) -> None:
        if len(self.waiting) < CAPACITY:
            [row] = claims(1, self.waiting[index % len(self.waiting)].job_id)
            self.ledger.enter([row])
            self.waiting.append(row)

    @precondition(lambda self: self.waiting)
    @rule(index=st.integers(0, CAPACITY))
    def strike(self, index: int) -> None:
        row = self.waiting.pop(index % len(self.waiting))
        self.ledger.strike(row)
        self.gone.append(row)

    @precondition(lambda self: self.gone)
    @rule(index=st.integers(0, CAPACITY))
    def strike_again(self, index: int) -> None:
        self.ledger.strike(self.gone[index % len(self.gone)])

    @rule()
    def begin_claim(self) -> None:
        self.token = new_id()
        self.ledger.begin_claim(self.token)

    @rule()
    def end_claim(self) -> None:
        self.ledger.end_claim()
        self.token = None

    @rule()
    def begin_inheriting(self) -> None:
        self.heir = new_id()
        self.ledger.begin_inheriting(self.heir)

    @rule()
    def end_inheriting(self) -> None:
        self.ledger.end_inheriting()
        self.heir = None

    @rule()
    def begin_again(self) -> None:
        self.process_id = new_id()
        self.ledger.is_process(self.process_id)

    @invariant()
    def says_what_is_held_and_not_started(self) -> None:
        tokens = frozenset(filter(None, [self.token, self.heir]))
        assert self.ledger.unstarted == Unstarted(tokens, frozenset(map(claim_of, self.waiting)))
        assert self.ledger.process_id == self.process_id


LedgerMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestLedger = LedgerMachine.TestCase


def test_a_claim_without_a_place_counts_as_started():
    ledger, rows = ledger_of(), claims(CAPACITY + 3)

    ledger.enter(rows)
    assert ledger.unstarted.claims == frozenset(map(claim_of, rows[:CAPACITY]))
    for row in rows:
        ledger.strike(row)

    assert ledger.unstarted == Unstarted()
    ledger.enter(more := claims(CAPACITY))
    assert ledger.unstarted.claims == frozenset(map(claim_of, more))


@pytest.mark.parametrize("written", range(1, 32))
def test_half_a_claim_is_nobodys(written):
    # The process was killed in the middle of a write: of the entry, or of striking it off.
    row = ClaimedExecution(job_id=UUID(int=2**128 - 1), claim_token=UUID(int=2**128 - 1))
    entered, struck = ledger_of(), ledger_of()
    value = row.job_id.bytes + row.claim_token.bytes
    entered._write(FIRST, value[:written].ljust(32, b"\0"))
    struck._write(FIRST, value[written:].rjust(32, b"\0"))

    for ledger in (entered, struck):
        assert row not in ledger.unstarted


def test_what_a_killed_child_wrote_is_there():
    ledger, rows = ledger_of(), claims(5)
    process_id, token = new_id(), new_id()
    pid = os.fork()
    if not pid:
        ledger.is_process(process_id)
        ledger.begin_claim(token)
        ledger.enter(rows)
        ledger.strike(rows[0])
        ledger.is_well()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)

    assert ledger.process_id == process_id
    assert ledger.was_well
    expected = Unstarted(frozenset([token]), frozenset(map(claim_of, rows[1:])))
    assert ledger.unstarted == expected


def test_a_new_one_says_nothing():
    ledger = ledger_of()

    assert (ledger.process_id, ledger.was_well, ledger.unstarted) == (None, False, Unstarted())
