"""pgqueuer: asyncio workers on asyncpg, batches of 100. It keeps a log row and no return value."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries
from protocol import WARM_UP, apaced, atimed, postgresql_parameters, record, serve, start, versions

SLICE = 1_000
BATCH = 100


async def connect() -> asyncpg.Connection:
    """Open a connection."""
    parameters = postgresql_parameters()
    return await asyncpg.connect(database=parameters.pop("dbname"), **parameters)


@asynccontextmanager
async def worker() -> AsyncIterator[PgQueuer]:
    """Open what a worker process runs."""
    connection = await connect()
    queue = PgQueuer.from_asyncpg_connection(connection)

    @queue.entrypoint("noop")
    async def noop(job: Job) -> None:
        int(job.payload or b"0")

    @queue.entrypoint("stamp")
    async def stamp(job: Job) -> None:
        record(time.time() - float(job.payload or b"0"))

    yield queue
    await connection.close()


async def work() -> None:
    """Be a worker process until TERM."""
    # Not `pgq run`: in 1.6.0 it fails with current releases of typer.
    async with worker() as queue:
        await queue.run(batch_size=BATCH)


class PgQueuerContestant:
    """One event loop and one connection for all calls."""

    def __init__(self) -> None:
        self.runner = uvloop.new_event_loop()
        self.connection = self.runner.run_until_complete(connect())
        self.queries = Queries(AsyncpgDriver(self.connection))

    def versions(self) -> dict[str, str]:
        return versions("pgqueuer", "uvloop")

    def setup(self) -> None:
        self.runner.run_until_complete(self.queries.install())

    def enqueue(self, count: int, seconds: float) -> Any:
        def one(number: int) -> Any:
            return self.queries.enqueue("noop", str(number).encode())

        self.runner.run_until_complete(atimed(one, WARM_UP, seconds))
        return self.runner.run_until_complete(atimed(one, count, seconds))

    def enqueue_all(self, count: int, seconds: float) -> Any:
        def many(first: int) -> Any:
            numbers = range(first, min(first + SLICE, count))
            payloads = [str(number).encode() for number in numbers]
            return self.queries.enqueue(["noop"] * len(numbers), payloads, [0] * len(numbers))

        done, elapsed = self.runner.run_until_complete(atimed(many, count, seconds, SLICE))
        return [min(done, count), elapsed]

    def load(self, count: int) -> None:
        self.enqueue_all(count, math.inf)

    def enqueue_stamps(self, count: int, per_second: float) -> None:
        def one(now: float) -> Any:
            return self.queries.enqueue("stamp", repr(now).encode())

        self.runner.run_until_complete(apaced(one, count, per_second))

    def workers(self, processes: int) -> list[dict[str, Any]]:
        return [start("peer_pgqueuer.py") for _ in range(processes)]

    def finished(self) -> int:
        query = "SELECT count(*) FROM pgqueuer_log WHERE status = 'successful'"
        return self.runner.run_until_complete(self.connection.fetchval(query))


def main() -> None:
    """Be the process that answers calls."""
    serve(PgQueuerContestant())


if __name__ == "__main__":
    uvloop.run(work())
