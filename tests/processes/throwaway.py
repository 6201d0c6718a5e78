"""A database server of the test's own, which it may stop; started by bin/servers.py."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.waiting import until

sys.path.insert(0, str(Path(__file__).parents[2] / "bin"))

import environment
import poolers as poolers
import servers

Missing = environment.Missing
STOP_SECONDS = 30


class Throwaway:
    """A server that runs; its process can be stopped and started on the same files."""

    def __init__(self, vendor: str) -> None:
        """Start it; raise Missing where its programs are not installed."""
        self._started = servers.START[vendor](Path(sys.executable))
        self._process: subprocess.Popen = self._started.process

    @property
    def settings(self) -> dict[str, Any]:
        """Where Django finds it."""
        url = urlsplit(self._started.url)
        return {"HOST": url.hostname, "PORT": url.port, "USER": url.username, "PASSWORD": ""}

    def stop(self) -> None:
        """Stop at once: clients are cut off, in the middle of a transaction too."""
        # Not KILL: these servers do not flush at commit, so that commits would be lost.
        is_postgresql = self._started.vendor == "postgresql"
        self._process.send_signal(signal.SIGINT if is_postgresql else signal.SIGTERM)
        self._process.wait(STOP_SECONDS)

    def start(self) -> None:
        """Start with the same command as the same user; return when it answers."""
        owner = os.stat(self._started.directory)
        identity = {"user": owner.st_uid, "group": owner.st_gid} if os.geteuid() == 0 else {}
        self._process = subprocess.Popen(
            self._process.args,
            cwd=self._started.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            **identity,
        )
        vendor, url = self._started.vendor, self._started.url
        until(lambda: servers.probe(vendor, url, Path(sys.executable))[0] == 0)

    def remove(self) -> None:
        """Stop it for good, and remove its files."""
        # The process that runs now, which may not be the one that was started first.
        replace(self._started, process=self._process).stop()
