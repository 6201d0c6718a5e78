"""Tasks that may not run beside each other."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Lock

from dj_queue.compat import TaskContext
from dj_queue.tasks import Concurrency, task


class Record:
    """What ran, in order, and how many at once at most."""

    def __init__(self) -> None:
        self._lock = Lock()
        self.clear()

    def clear(self) -> None:
        self.begun: list[int] = []
        self.running = self.most = 0
        self.are_five = Event()

    @contextmanager
    def entry(self, number: int) -> Iterator[None]:
        with self._lock:
            self.begun.append(number)
            self.running += 1
            self.most = max(self.most, self.running)
            if self.running == 5:
                self.are_five.set()
        yield
        with self._lock:
            self.running -= 1


RECORD = Record()
"""Of the workers of this process."""


@task(concurrency=Concurrency(key="account:{account_id}"))
def charge(account_id: int, number: int = 0) -> int:
    """Record that it runs, one at a time for an account."""
    with RECORD.entry(number):
        return number


@task(concurrency=Concurrency(key="five", limit=5))
def crowd(number: int) -> None:
    """Record that it runs, five at a time; the first five wait for each other."""
    with RECORD.entry(number):
        assert RECORD.are_five.wait(20)


@task(concurrency=Concurrency(key="account:{account_id}", on_conflict="discard"))
def refresh(account_id: int) -> int:
    """Share the keys of `charge`, or be dropped."""
    return account_id


@task(concurrency=Concurrency(key=lambda *args, **kwargs: f"{args}{kwargs}", limit=2, duration=60))
def compute(*args: int, **kwargs: int) -> None:
    """Have a key that a function makes."""


@task(
    takes_context=True,
    max_attempts=3,
    backoff=0,
    concurrency=Concurrency(key="account:{account_id}"),
)
def stumble_in_turn(context: TaskContext, account_id: int) -> None:
    """Raise, three times at the most, without a pause."""
    raise ValueError(f"attempt {context.attempt}")


@task(max_attempts=3, backoff=60, concurrency=Concurrency(key="account:{account_id}"))
def stumble_later(account_id: int) -> None:
    """Raise, three times at the most, a minute apart."""
    raise ValueError("later")
