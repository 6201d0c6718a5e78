"""Lost processes are given up, but not at first sight."""

from dataclasses import dataclass
from datetime import timedelta

import pytest

from dj_queue import timezone
from dj_queue.models import FailedExecution, Process
from dj_queue.models.ids import new_id
from dj_queue.operations.claim import claim
from dj_queue.operations.processes import beat, register
from dj_queue.routers import queue_database
from dj_queue.runtime import lost as module
from dj_queue.runtime.lost import LostProcesses
from tests.jobs import EVERY, counts, store

pytestmark = pytest.mark.django_db(transaction=True, **EVERY)


@dataclass
class Time:
    """The clock of the wall, which may be set, and that of life, which only runs on."""

    wall: object
    life: float = 1_000.0

    def pass_by(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)
        self.life += seconds


@pytest.fixture
def time(monkeypatch):
    time = Time(timezone.now())
    monkeypatch.setattr(module, "present", lambda db: time.wall)
    monkeypatch.setattr(module, "seconds_of_life", lambda: time.life)
    return time


@pytest.fixture
def db():
    return queue_database("default")


@pytest.fixture
def lost(db):
    lost = LostProcesses(db)
    # Of the defaults: a beat a minute, five minutes until one is given up.
    assert (lost.alive_threshold_seconds, lost.confirm_seconds) == (300, 70)
    return lost


def living(db, time, name="worker"):
    """Register a process that has just beaten and claimed a job; return its id."""
    process_id = new_id()
    times = {"started_at": time.wall, "last_heartbeat_at": time.wall}
    who = {"kind": "worker", "name": name, "pid": 7, "hostname": "far", "metadata": {}}
    register(db, [Process(id=process_id, **who, **times)])
    store(db)
    claim(db, ["*"], limit=1, process_id=process_id, now=time.wall)
    return process_id


def watch(lost, time, seconds):
    """Look every few seconds for so long; return how many were given up."""
    given_up = 0
    for _ in range(int(seconds / 5)):
        time.pass_by(5)
        given_up += lost.step()
    return given_up


def test_one_who_was_seen_silent_for_a_while_is_given_up(db, lost, time, events):
    process_id = living(db, time)
    before = time.wall

    assert watch(lost, time, 370) == 0
    assert watch(lost, time, 5) == 1

    assert counts(db) == {"failed": 1}
    failed = db.objects(FailedExecution).get()
    assert failed.exception_path == "dj_queue.exceptions.ProcessPruned"
    assert failed.message == (
        f"the process worker (pid 7 on far) has sent no heartbeat since "
        f"{before:%Y-%m-%d %H:%M:%S} UTC and was given up"
    )
    assert not db.objects(Process).exists()
    [payload] = [payload for event, payload in events() if event == "process_pruned"]
    assert (payload["process"], payload["ready"], payload["ended"]) == (process_id, 0, 1)


def test_one_who_beats_is_kept(db, lost, time):
    process_id = living(db, time)

    for _ in range(20):
        assert watch(lost, time, 60) == 0
        beat(db, [process_id], now=time.wall)

    assert counts(db) == {"claimed": 1}


def test_one_whose_clock_is_slow_is_kept_while_it_beats(db, lost, time):
    # Each of its heartbeats looks older than the threshold some time before the next.
    slow = timedelta(seconds=270)
    time.wall -= slow
    process_id = living(db, time)
    time.wall += slow

    for _ in range(20):
        assert watch(lost, time, 60) == 0
        beat(db, [process_id], now=time.wall - slow)

    assert counts(db) == {"claimed": 1}


def test_nobody_is_given_up_at_first_sight(db, lost, time):
    living(db, time)
    time.pass_by(3_600)

    assert lost.step() == 0


def test_one_who_beats_again_after_an_outage_is_kept(db, lost, time):
    # Nobody could beat or look for an hour; then the dispatcher is the first to look.
    process_id = living(db, time)
    watch(lost, time, 60)
    time.pass_by(3_600)

    assert lost.step() == 0
    time.pass_by(5)
    assert lost.step() == 0
    beat(db, [process_id], now=time.wall)

    assert watch(lost, time, 60) == 0
    assert counts(db) == {"claimed": 1}


def test_an_outage_between_two_looks_begins_the_watch_anew(db, lost, time):
    # Seen silent before it; what was seen then says nothing of the time after it.
    living(db, time)
    watch(lost, time, 305)
    time.pass_by(3_600)

    assert watch(lost, time, 65) == 0
    assert watch(lost, time, 10) == 1


def test_a_clock_that_is_set_forward_costs_nobody_who_beats(db, lost, time):
    process_id = living(db, time)
    watch(lost, time, 60)

    time.wall += timedelta(hours=2)
    assert watch(lost, time, 5) == 0
    beat(db, [process_id], now=time.wall)

    assert watch(lost, time, 60) == 0
    assert counts(db) == {"claimed": 1}


def test_a_clock_that_is_set_back_only_makes_it_later(db, lost, time):
    living(db, time)

    time.wall -= timedelta(hours=2)
    assert watch(lost, time, 7_200) == 0

    assert watch(lost, time, 390) == 1


def test_claims_of_one_who_is_not_registered_are_recovered(db, lost, time):
    store(db)
    claim(db, ["*"], limit=1, process_id=new_id(), now=time.wall)

    assert watch(lost, time, 70) == 0
    assert watch(lost, time, 5) == 1

    assert "is not registered" in db.objects(FailedExecution).get().message


def test_the_most_patient_backend_of_the_database_decides(db, settings):
    own = settings.TASKS["alerts"]
    patient = {"process_alive_threshold": 900, "process_heartbeat_interval": 2}
    options = {**own["OPTIONS"], **patient}
    settings.TASKS = {**settings.TASKS, "alerts": {**own, "OPTIONS": options}}

    assert LostProcesses(db).alive_threshold_seconds == 900


def test_one_who_beats_when_it_has_been_found_lost_keeps_its_claims(
    db, lost, time, monkeypatch, events
):
    # It continues between the look and the recovery: its heart is answered, so it starts its jobs.
    process_id = living(db, time)
    assert watch(lost, time, 370) == 0
    look = module.silent_processes

    def look_then_beat(*args, **kwargs):
        found = look(*args, **kwargs)
        assert beat(db, [process_id], now=time.wall) == set()
        return found

    monkeypatch.setattr(module, "silent_processes", look_then_beat)
    time.pass_by(5)
    assert lost.step() == 0

    assert counts(db) == {"claimed": 1}
    assert db.objects(Process).filter(pk=process_id).exists()
    assert [event for event, _ in events() if event == "process_pruned"] == []
