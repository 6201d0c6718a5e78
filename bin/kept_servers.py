"""The servers that `bin/servers up` leaves running, in .venvs/servers.json."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from dataclasses import asdict, dataclass

from environment import VENVS, run
from servers import STOP_SECONDS, Server, fast_shutdown

FILE = VENVS / "servers.json"


@dataclass(frozen=True)
class Kept:
    """A server that bin/servers started, which outlives it."""

    vendor: str
    url: str
    pid: int
    directory: str

    @property
    def is_up(self) -> bool:
        """Whether the process is there, and is that server: ids of processes are used again."""
        return self.directory in run(["ps", "-o", "command=", "-p", str(self.pid)])[1]


def kept() -> dict[str, Kept]:
    """Give the servers that bin/servers keeps up, by vendor."""
    try:
        entries = json.loads(FILE.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    found = [Kept(**entry) for entry in entries]
    return {server.vendor: server for server in found if server.is_up}


def keep(server: Server) -> None:
    """Write down a server that was started, for later runs."""
    assert server.process is not None
    new = Kept(server.vendor, server.url, server.process.pid, str(server.directory))
    _write([*kept().values(), new])


def drop(server: Kept) -> None:
    """Stop a server that is kept, remove its data, and forget it."""
    for sent in (fast_shutdown(server.vendor), signal.SIGKILL):
        deadline = time.monotonic() + STOP_SECONDS
        while server.is_up and time.monotonic() < deadline:
            os.kill(server.pid, sent)
            time.sleep(0.2)
    shutil.rmtree(server.directory, ignore_errors=True)
    _write([other for other in kept().values() if other != server])


def _write(servers: list[Kept]) -> None:
    FILE.write_text(json.dumps([asdict(server) for server in servers]), encoding="utf-8")
