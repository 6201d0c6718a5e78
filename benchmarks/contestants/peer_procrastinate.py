"""procrastinate: asyncio workers on psycopg. It keeps the job's row and no return value."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

from procrastinate import App, PsycopgConnector
from protocol import WARM_UP, apaced, atimed, postgresql_parameters, record, serve, start, versions

SLICE = 1_000
CONCURRENCY = 20

app = App(connector=PsycopgConnector(kwargs=postgresql_parameters()))


@app.task(name="noop")
async def noop(number: int) -> None:
    """Do nothing."""


@app.task(name="stamp")
async def stamp(sent: float) -> None:
    """Record the seconds since the enqueue."""
    record(time.time() - sent)


class Procrastinate:
    """One event loop for all calls."""

    def __init__(self) -> None:
        self.runner = asyncio.new_event_loop()
        self.runner.run_until_complete(app.open_async())

    def versions(self) -> dict[str, str]:
        return versions("procrastinate")

    def setup(self) -> None:
        self.runner.run_until_complete(app.schema_manager.apply_schema_async())

    def enqueue(self, count: int, seconds: float) -> Any:
        def one(number: int) -> Any:
            return noop.defer_async(number=number)

        self.runner.run_until_complete(atimed(one, WARM_UP, seconds))
        return self.runner.run_until_complete(atimed(one, count, seconds))

    def enqueue_all(self, count: int, seconds: float) -> Any:
        def many(first: int) -> Any:
            numbers = range(first, min(first + SLICE, count))
            return noop.batch_defer_async(*({"number": number} for number in numbers))

        done, elapsed = self.runner.run_until_complete(atimed(many, count, seconds, SLICE))
        return [min(done, count), elapsed]

    def load(self, count: int) -> None:
        self.enqueue_all(count, math.inf)

    def enqueue_stamps(self, count: int, per_second: float) -> None:
        def one(now: float) -> Any:
            return stamp.defer_async(sent=now)

        self.runner.run_until_complete(apaced(one, count, per_second))

    def workers(self, processes: int) -> list[dict[str, Any]]:
        command = ["-m", "procrastinate", "--app", "peer_procrastinate.app"]
        options = ["--log-level", "warning", "worker", "--concurrency", str(CONCURRENCY)]
        return [start(*command, *options) for _ in range(processes)]

    def finished(self) -> int:
        query = "SELECT count(*) AS count FROM procrastinate_jobs WHERE status = 'succeeded'"
        found = self.runner.run_until_complete(app.connector.execute_query_one_async(query))
        return found["count"]


def main() -> None:
    """Be the process that answers calls."""
    serve(Procrastinate())
