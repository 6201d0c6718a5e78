"""The ledger: it says of a dead process exactly what that had not started, and what had ended."""

import os
import signal
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from uuid import UUID

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dj_queue.conf import WorkerOptions
from dj_queue.engines.claims import Claim, claim_of
from dj_queue.models import ClaimedExecution
from dj_queue.models.fields import encode_json
from dj_queue.models.ids import new_id
from dj_queue.operations.execute import Outcome
from dj_queue.operations.failure import Failure
from dj_queue.operations.remains import Note, Remains, Unstarted
from dj_queue.routers import queue_database
from dj_queue.runtime import ledger as module
from dj_queue.runtime.ledger import MAX_PENDING, Ledger
from dj_queue.runtime.pages import FIRST, RETURNED, STARTED, STATE, TEXT_WIDTH, WIDTH
from dj_queue.runtime.prefetch import MOST_JOBS
from dj_queue.runtime.units import Unit

THREADS = 2
CAPACITY = MAX_PENDING + MOST_JOBS + 2 * THREADS
NOW = datetime(2026, 1, 1, 12, 0, 0, 123_456, UTC)
LATER = NOW + timedelta(microseconds=7)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from("abc"), inner),
)


def ledger_of(threads: int = THREADS) -> Ledger:
    db = queue_database("default")
    return Ledger(Unit("worker", db, "worker", WorkerOptions(threads=threads)))


def claims(count: int, job_id=None) -> list[ClaimedExecution]:
    """Build claims of so many jobs, or as many of one, under tokens of their own."""
    return [ClaimedExecution(job_id=job_id or new_id(), claim_token=new_id()) for _ in range(count)]


def outcome_of(row: ClaimedExecution, value: object = None, **more) -> Outcome:
    return Outcome(row, NOW, LATER, SimpleNamespace(), return_value=value, **more)


class LedgerMachine(RuleBasedStateMachine):
    """Whatever a worker does, the model is claims that wait, run or have ended, and two tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = ledger_of()
        self.waiting: list[ClaimedExecution] = []
        self.started: list[ClaimedExecution] = []
        self.ended: dict[Claim, Note] = {}
        self.gone: list[ClaimedExecution] = []
        self.token = self.heir = None
        self.process_id = None

    @rule(count=st.integers(0, 60))
    def enter(self, count: int) -> None:
        rows = claims(count)
        self.ledger.enter(rows)
        self.waiting += rows

    @precondition(lambda self: self.waiting)
    @rule(index=st.integers(0, CAPACITY))
    def enter_the_same_job_again(self, index: int) -> None:
        [row] = claims(1, self.waiting[index % len(self.waiting)].job_id)
        self.ledger.enter([row])
        self.waiting.append(row)

    @precondition(lambda self: self.waiting)
    @rule(index=st.integers(0, CAPACITY))
    def strike(self, index: int) -> None:
        row = self.waiting.pop(index % len(self.waiting))
        self.ledger.strike(row)
        self.gone.append(row)

    @precondition(lambda self: self.waiting)
    @rule(index=st.integers(0, CAPACITY))
    def start(self, index: int) -> None:
        row = self.waiting.pop(index % len(self.waiting))
        self.ledger.start(row)
        self.started.append(row)

    @precondition(lambda self: self.started)
    @rule()
    def enter_what_did_not_start_after_all(self) -> None:
        row = self.started.pop()
        self.ledger.enter([row])
        self.waiting.append(row)

    @precondition(lambda self: self.started)
    @rule(index=st.integers(0, CAPACITY), value=VALUES)
    def end(self, index: int, value: object) -> None:
        row = self.started.pop(index % len(self.started))
        self.ledger.end(outcome_of(row, value))
        text = encode_json(value)
        is_small = len(text.encode()) <= TEXT_WIDTH
        self.ended[claim_of(row)] = Note(NOW, LATER, False, text if is_small else None)
        self.gone.append(row)

    @precondition(lambda self: self.gone)
    @rule(index=st.integers(0, CAPACITY))
    def strike_again(self, index: int) -> None:
        row = self.gone[index % len(self.gone)]
        self.ledger.strike(row)
        self.ended.pop(claim_of(row), None)

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
        unstarted = Unstarted(tokens, frozenset(map(claim_of, self.waiting)))
        assert self.ledger.remains == Remains(unstarted, self.ended)
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


@pytest.mark.parametrize("written", range(1, 33))
def test_half_a_claim_is_nobodys(written):
    # The process was killed in the middle of a write: of the entry, or of striking it off.
    row = ClaimedExecution(job_id=UUID(int=2**128 - 1), claim_token=UUID(int=2**128 - 1))
    entered, over = ledger_of(), ledger_of()
    value = b"\1" + row.job_id.bytes + row.claim_token.bytes
    at = FIRST * WIDTH + STATE
    entered._memory[at : at + written] = value[:written]
    over._memory[at : at + 33] = value
    over._memory[at : at + written] = bytes(written)

    for ledger in (entered, over):
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


def test_a_note_counts_when_all_of_it_is_written():
    ledger, [row] = ledger_of(), claims(1)
    ledger.enter([row])
    ledger.start(row)
    ledger.end(outcome_of(row))
    [note] = ledger.remains.ended.values()
    place = FIRST * WIDTH + STATE
    assert (note.text, ledger._memory[place]) == ("null", RETURNED)

    # The process was killed before the last byte of the note, its state.
    ledger._memory[place] = STARTED

    assert ledger.remains == Remains()


@pytest.mark.parametrize(
    ("path", "message", "text"),
    [
        ("builtins.ValueError", "no", "builtins.ValueError\nno"),
        ("builtins.ValueError", "", "builtins.ValueError"),
        ("builtins.ValueError", "x" * 76, "builtins.ValueError\n" + "x" * 76),
        ("builtins.ValueError", "x" * 77, "builtins.ValueError\n" + "x" * 73 + "…"),
        ("builtins.ValueError", "é" * 60, "builtins.ValueError\n" + "é" * 36 + "…"),
        ("p" * 96, "no", "p" * 96),
        ("p" * 97, "no", None),
    ],
)
def test_of_an_error_as_much_is_noted_as_has_room(path, message, text):
    ledger, [row] = ledger_of(), claims(1)
    ledger.enter([row])
    ledger.start(row)

    retry_at = LATER + timedelta(days=1)
    ledger.end(outcome_of(row, failure=Failure(path, message, "…"), retry_at=retry_at))

    assert ledger.remains.ended == {claim_of(row): Note(NOW, LATER, True, text, retry_at)}


def test_a_large_result_is_not_written_to_see_that_it_is_large(monkeypatch):
    ledger, [row] = ledger_of(), claims(1)
    ledger.enter([row])
    monkeypatch.setattr(module, "encode_json", lambda value: pytest.fail("it was written"))

    for value in ("x" * 97, [["x" * 50], "x" * 50], {"a": {"b": ["x"] * 97}}):
        ledger.end(outcome_of(row, value))
        [note] = ledger.remains.ended.values()
        assert note.text is None
