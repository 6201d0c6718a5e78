"""Real processes: `manage.py dj_queue` and its kin."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(child_environment: dict[str, str]) -> Iterator[Start]:
    """Give a function that starts a management command as its own process."""
    started: list[subprocess.Popen[str]] = []

    def start(*command: str, settings: str = "tests.settings") -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "django", *command],
            env={**child_environment, "DJANGO_SETTINGS_MODULE": settings, "PYTHONUNBUFFERED": "1"},
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.kill(process.pid, 9)
        process.communicate()
