"""What a contestant's process speaks: one JSON line in, one out. Standard library only.

The files here run in the environments of the peers: the peer dj-queue has our import
name, so nothing of the checkout may be on their path.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PLACE: dict[str, Any] = json.loads(os.environ["BENCHMARK_PLACE"])
"""Given by benchmarks.contest: `databases` (Django's DATABASES), `options`, `records`."""

DATABASES: dict[str, dict[str, Any]] = PLACE["databases"]
DRIVERS = ("psycopg", "asyncpg", "mysqlclient")
WARM_UP = 20
"""Calls before a measurement: connections are open and code is loaded then."""


def serve(contestant: Any) -> None:
    """Answer calls `[method, argument…]` until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # What a library prints must not look like an answer.
    for line in sys.stdin:
        method, *arguments = json.loads(line)
        try:
            answer = {"answer": getattr(contestant, method)(*arguments)}
        except NotImplementedError as missing:
            answer = {"missing": str(missing)}
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


def timed(call: Callable[[int], object], count: int, seconds: float, slice_size: int = 1) -> Any:
    """Call with numbers from 0, `slice_size` apart; give how many were done in how long.

    Ends after `count` or when `seconds` are over.
    """
    began, done = time.perf_counter(), 0
    while done < count and time.perf_counter() - began < seconds:
        call(done)
        done += slice_size
    return [done, time.perf_counter() - began]


def paced(call: Callable[[float], object], count: int, per_second: float) -> None:
    """Call `count` times with the time of the call, `per_second` times a second."""
    began = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, began + number / per_second - time.monotonic()))
        call(time.time())


def record(line: object) -> None:
    """Append a line to this process' own file; one write, so that a kill cannot tear it."""
    path = Path(PLACE["records"]) / f"{os.getpid()}.txt"
    target = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(target, f"{line}\n".encode())
    finally:
        os.close(target)


def versions(*packages: str) -> dict[str, str]:
    """Give the versions of Python, of the drivers that are installed, and of these packages."""
    found = {"Python": sys.version.split()[0]}
    for package in (*packages, *DRIVERS):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def start(*command: str, **environment: str) -> dict[str, Any]:
    """Describe a worker process: this Python with these arguments and variables."""
    return {"command": [sys.executable, *command], "environment": environment}


async def atimed(
    call: Callable[[int], Awaitable[object]], count: int, seconds: float, slice_size: int = 1
) -> Any:
    """As timed, for a coroutine function."""
    began, done = time.perf_counter(), 0
    while done < count and time.perf_counter() - began < seconds:
        await call(done)
        done += slice_size
    return [done, time.perf_counter() - began]


async def apaced(call: Callable[[float], Awaitable[object]], count: int, per_second: float) -> None:
    """As paced, for a coroutine function."""
    began = time.monotonic()
    for number in range(count):
        await asyncio.sleep(max(0.0, began + number / per_second - time.monotonic()))
        await call(time.time())


def postgresql_parameters(alias: str = "default") -> dict[str, Any]:
    """Give libpq's parameters of a database."""
    config = DATABASES[alias]
    names = {"host": "HOST", "port": "PORT", "user": "USER", "password": "PASSWORD"}
    found = {name: config[key] for name, key in names.items() if config[key]}
    return {"dbname": config["NAME"], **found}
