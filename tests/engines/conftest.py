"""A connection that listens, and a suppressor whose time stands still."""

from collections.abc import Iterable, Iterator

import pytest

from dj_queue.engines import engine_for
from dj_queue.engines.notifications import Listening, Suppressor
from dj_queue.routers import QueueDatabase


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Recorder(Suppressor):
    """A suppressor that remembers the payloads it let through."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.sent: list[str] = []

    def due(self, db: QueueDatabase, queues: Iterable[str]) -> str | None:
        payload = super().due(db, queues)
        if payload is not None:
            self.sent.append(payload)
        return payload


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def suppressor(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Give the engine a suppressor of its own, on a clock that stands still."""
    suppressor = Recorder(clock)
    monkeypatch.setattr("dj_queue.engines.postgresql.due", suppressor.due)
    return suppressor


@pytest.fixture
def listening(db: QueueDatabase, needs_notifications: None) -> Iterator[Listening]:
    """Give a connection that hears what is told on the queue database."""
    listening = engine_for(db).listen(db)
    assert listening is not None
    yield listening
    listening.close()
