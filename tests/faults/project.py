"""A Django project of its own in a directory: planted with faults, run as an operator would."""

import json
import os
import shutil
import subprocess
import sys
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from pprint import pformat
from typing import Any

import django

REPOSITORY = Path(__file__).parents[2]
TEMPLATE = Path(__file__).parent / "template"
DRIVER = Path(__file__).parent / "driver.py"
OURS = "dj_queue.backend.DjQueueBackend"
ROUTER = "dj_queue.routers.DjQueueRouter"
TIME_LIMIT = 60


@dataclass(frozen=True)
class Outcome:
    """How one command ended."""

    status: int
    out: str
    err: str
    seconds: float

    @property
    def text(self) -> str:
        """All it printed, without line breaks: messages are wrapped."""
        return " ".join(f"{self.out} {self.err}".split())

    @property
    def json(self) -> Any:
        """What it printed as JSON."""
        return json.loads(self.out)

    @property
    def ids(self) -> list[str]:
        """The ids of the problems in `dj_queue_routes --json`, without the app's label, sorted."""
        return sorted({each["id"].partition(".")[2] for each in self.json["problems"]})


class Project:
    """Settings, an application with a model and tasks, and a way to run commands on them."""

    def __init__(
        self, directory: Path, databases: dict[str, dict[str, Any]], driver: subprocess.Popen[str]
    ) -> None:
        self.directory = directory
        self.driver: Any = driver
        self.databases = databases
        shutil.copytree(TEMPLATE, directory, dirs_exist_ok=True)
        self.write()

    @property
    def apps(self) -> list[str]:
        """INSTALLED_APPS of the healthy project."""
        return healthy(self.databases)["INSTALLED_APPS"]

    def write(self, changes: dict[str, Any] | None = None) -> None:
        """Write healthy settings but for `changes`: {"TASKS.bulk.OPTIONS.dedicated": True}."""
        settings = healthy(self.databases)
        for path, value in (changes or {}).items():
            *parents, last = path.split(".")
            target = settings
            for name in parents:
                target = target.setdefault(name, {})
            target[last] = value
        lines = [
            f"{name} = {pformat(value, sort_dicts=False)}\n" for name, value in settings.items()
        ]
        (self.directory / "settings.py").write_text("".join(lines), encoding="utf-8")

    def run(self, *commands: str) -> list[Outcome]:
        """Run management commands one after another, all in one process of their own.

        "-c code" runs Python code instead.
        """
        answer = self.directory / "answer.json"
        answer.unlink(missing_ok=True)
        request = {"directory": str(self.directory), "commands": commands, "answer": str(answer)}
        self.driver.stdin.write(json.dumps({**request, "seconds": TIME_LIMIT}) + "\n")
        self.driver.stdin.flush()
        assert self.driver.stdout.readline() == "done\n", "the driver ended"
        assert answer.exists(), f"the commands took more than {TIME_LIMIT} s, or see the traceback"
        return [Outcome(**each) for each in json.loads(answer.read_text(encoding="utf-8"))]

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start one management command and return at once; errors go to its output."""
        return subprocess.Popen(
            [sys.executable, "-m", "django", *command],
            cwd=self.directory,
            env={**environment(self.directory), "DJANGO_SETTINGS_MODULE": "settings"},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )


def start_driver() -> subprocess.Popen[str]:
    """Start the process that runs commands for all projects."""
    return subprocess.Popen(
        [sys.executable, str(DRIVER)],
        env=environment(),
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def environment(*directories: Path) -> dict[str, str]:
    """Give the environment of a process that knows nothing of this test run."""
    ours = ("DJ_QUEUE_", "DJANGO_", "PYTEST_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    paths = os.pathsep.join(map(str, [*directories, REPOSITORY]))
    return {**kept, "PYTHONPATH": paths, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}


def healthy(databases: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Give the settings of a project without faults: two backends, each on its own database."""
    apps = ["django.contrib.contenttypes", "dj_queue", "depot"]
    if django.VERSION < (6, 0):
        apps.append("django_tasks")
    return {
        "SECRET_KEY": "a planted project",
        "USE_TZ": True,
        "DEFAULT_AUTO_FIELD": "django.db.models.BigAutoField",
        "INSTALLED_APPS": apps,
        "DATABASES": deepcopy(databases),
        "DATABASE_ROUTERS": [ROUTER],
        "TASKS": {
            "default": {"BACKEND": OURS, "OPTIONS": {"database_alias": "queue"}},
            "bulk": {"BACKEND": OURS, "OPTIONS": {"database_alias": "bulk"}},
        },
    }
