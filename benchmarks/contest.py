"""One contestant's processes: the one that answers calls, and its workers.

All run in sessions of their own, so that ctrl-C reaches this process alone, which ends them.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import mkdtemp
from types import TracebackType
from typing import Any

from benchmarks.databases import Databases, Server
from benchmarks.peers import OURS, Contestant

SCRIPTS = Path(__file__).parent / "contestants"
CHECKOUT = Path(__file__).parent.parent
STOP_SECONDS = 15
ALIASES = ("default", "second")


class NotOffered(Exception):
    """The contestant has nothing like it."""


class ContestantFailed(Exception):
    """A call raised in the contestant's process; the message is its traceback."""


class Contest:
    """A contestant on fresh databases inside a `with` block, one for each server given."""

    def __init__(
        self,
        contestant: Contestant,
        peers: Path,
        databases: Databases,
        servers: Sequence[Server],
        **options: Any,
    ) -> None:
        self.contestant = contestant
        self.servers = tuple(servers)
        self.databases = databases
        self.configs = [databases.create(each) for each in servers]
        self.records = Path(mkdtemp(prefix="records_", dir=databases.directory))
        self._options = options
        self._python = contestant.python(peers)
        self._workers: list[subprocess.Popen] = []
        self._process: subprocess.Popen | None = None

    def __enter__(self) -> Contest:
        run = f"import {self.contestant.module}; {self.contestant.module}.main()"
        self._process = self._start([str(self._python), "-c", run])
        try:
            self.call("setup")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop_workers()
        if self._process:
            _end(self._process, signal.SIGKILL)
        for server, config in zip(self.servers, self.configs, strict=True):
            self.databases.drop(server, Path(config["NAME"]).stem)
        shutil.rmtree(self.records, ignore_errors=True)

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the contestant; raise NotOffered or ContestantFailed."""
        assert self._process
        assert self._process.stdin
        assert self._process.stdout
        request = f"{json.dumps([method, *arguments])}\n".encode()
        try:
            self._process.stdin.write(request)
            self._process.stdin.flush()
        except BrokenPipeError:
            pass
        line = self._process.stdout.readline()
        if not line:
            raise ContestantFailed(f"{self.contestant.name} ended during {method}; see above")
        reply = json.loads(line)
        if "missing" in reply:
            raise NotOffered(reply["missing"])
        if "error" in reply:
            raise ContestantFailed(f"{self.contestant.name}: {method}\n{reply['error']}")
        return reply["answer"]

    def start_workers(self, processes: int, *aliases: str) -> None:
        """Start so many worker processes for each of the backends named, or for the only one."""
        for each in self.call("workers", processes, *aliases):
            self._workers.append(self._start(each["command"], each["environment"]))

    @property
    def worker_ids(self) -> set[int]:
        """The process ids of what `start_workers` started."""
        return {worker.pid for worker in self._workers}

    def check_workers(self) -> None:
        """Raise ContestantFailed when a worker has ended by itself."""
        for worker in self._workers:
            if worker.poll() is not None:
                raise ContestantFailed(
                    f"a worker of {self.contestant.name} ended with {worker.returncode}; its last "
                    f"lines:\n{self._log_end()}"
                )

    def stop_workers(self) -> None:
        """Tell the workers to stop; kill those that do not."""
        for worker in self._workers:
            if worker.poll() is None:
                os.killpg(worker.pid, signal.SIGTERM)
        for worker in self._workers:
            _end(worker, signal.SIGTERM)
        self._workers.clear()

    def kill_workers(self) -> None:
        """Kill the workers and all that they have started, at once."""
        for worker in self._workers:
            _end(worker, signal.SIGKILL)
        self._workers.clear()

    def recorded(self) -> list[list[str]]:
        """Give the lines that tasks recorded, one list for each process."""
        return [path.read_text().splitlines() for path in sorted(self.records.glob("*.txt"))]

    def analyze(self) -> None:
        """Let the planner know the tables, as autovacuum does in a database that lives longer."""
        for server, config in zip(self.servers, self.configs, strict=True):
            if server.scheme == "postgresql":
                server.execute("ANALYZE", config["NAME"])

    def _start(
        self, command: Sequence[str], environment: dict[str, str] | None = None
    ) -> subprocess.Popen:
        """Start a worker with its variables, or without any the process that answers calls."""
        is_worker = environment is not None
        databases = dict(zip(ALIASES, self.configs, strict=False))
        place = {"databases": databases, "options": self._options, "records": str(self.records)}
        paths = [str(SCRIPTS), *([str(CHECKOUT)] if self.contestant.name == OURS else [])]
        with (self.records / "log").open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=SCRIPTS,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(paths),
                    "PYTHONDONTWRITEBYTECODE": "1",
                    "BENCHMARK_PLACE": json.dumps(place),
                    **(environment or {}),
                },
                stdin=subprocess.DEVNULL if is_worker else subprocess.PIPE,
                stdout=log if is_worker else subprocess.PIPE,
                stderr=log if is_worker else None,
                start_new_session=True,
            )

    def _log_end(self) -> str:
        return "\n".join((self.records / "log").read_text().splitlines()[-15:])


def _end(process: subprocess.Popen, first: signal.Signals) -> None:
    for sent in (first, signal.SIGKILL):
        if process.poll() is None:
            os.killpg(process.pid, sent)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        return
