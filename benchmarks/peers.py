"""The contestants: who they are, where they run, and how their environments are made."""

from __future__ import annotations

import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

from benchmarks.databases import Refused

DJANGO_VENDORS = ("postgresql", "mariadb", "mysql", "sqlite")
DJANGO = ("Django>=6.0,<6.2", "psycopg[binary]>=3.2", "mysqlclient>=2.2.1")
DEFAULT_DIRECTORY = Path(__file__).parent / ".peers"


@dataclass(frozen=True)
class Contestant:
    """One of those compared: its module in benchmarks/contestants and what it keeps of a job."""

    name: str
    module: str
    keeps: str
    vendors: tuple[str, ...]
    requirements: tuple[str, ...] = ()

    def python(self, directory: Path) -> Path:
        """Give the interpreter it runs with."""
        if self.name == OURS:
            return Path(sys.executable)
        return directory / self.name / "bin" / "python"


OURS = "ours"
CONTESTANTS = {
    each.name: each
    for each in (
        Contestant(OURS, "ours", "job, return value, timings", DJANGO_VENDORS),
        Contestant(
            "dj-queue",
            "peer_dj_queue",
            "job, return value",
            DJANGO_VENDORS,
            ("dj-queue==0.14.2", *DJANGO),
        ),
        Contestant(
            "django-tasks-db",
            "peer_django_tasks_db",
            "job, return value, timings",
            DJANGO_VENDORS,
            ("django-tasks-db==0.13.0", *DJANGO),
        ),
        Contestant(
            "procrastinate",
            "peer_procrastinate",
            "job, events, no return value",
            ("postgresql",),
            ("procrastinate==3.10.0", "psycopg[binary,pool]>=3.2"),
        ),
        Contestant(
            "pgqueuer",
            "peer_pgqueuer",
            "log rows, no job, no return value",
            ("postgresql",),
            ("pgqueuer[asyncpg]==1.6.0",),
        ),
    )
}


def chosen(names: str | None) -> tuple[Contestant, ...]:
    """Read `--only`: names separated by commas, ours always the first. Raises Refused."""
    if names is None:
        return tuple(CONTESTANTS.values())
    wanted = {name.strip() for name in names.split(",")}
    if unknown := wanted - set(CONTESTANTS):
        known = ", ".join(CONTESTANTS)
        raise Refused(f"expected --only to name some of {known}, got {', '.join(sorted(unknown))}")
    return tuple(each for name, each in CONTESTANTS.items() if name in wanted)


def install(directory: Path) -> None:
    """Make a virtual environment for every peer, or bring it up to date."""
    for contestant in CONTESTANTS.values():
        if not contestant.requirements:
            continue
        python = contestant.python(directory)
        print(f"{contestant.name}: pip install {' '.join(contestant.requirements)}", flush=True)
        if not python.exists():
            venv.create(directory / contestant.name, with_pip=True)
        command = [str(python), "-m", "pip", "install", "--quiet", *contestant.requirements]
        if subprocess.run(command).returncode:
            raise Refused(f"expected pip to install {contestant.name}, see its message above")
