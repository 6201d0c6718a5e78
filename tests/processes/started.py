"""A management command that runs, with the processes that it starts."""

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Started:
    """A command in a process group of its own; its output goes to a file, which is never full."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self.log = log
        # All descendants inherit the writing end: it is at its end when the last one is gone.
        self._life, inherited = os.pipe()
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                env=environment,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=[inherited],
            )
        os.close(inherited)

    @property
    def pid(self) -> int:
        """The process that was started; the supervisor, or its autoreloader."""
        return self.process.pid

    @property
    def output(self) -> str:
        """What was written so far."""
        return self.log.read_text()

    @property
    def is_over(self) -> bool:
        """Whether no process of it is left, neither child nor orphan."""
        self.process.poll()
        return bool(select.select([self._life], [], [], 0)[0])

    def signal_all(self, signum: int) -> None:
        """Signal the whole group, as a terminal does."""
        os.killpg(self.pid, signum)

    def wait(self) -> tuple[int, str]:
        """Wait for the end; give exit status and output."""
        self.process.wait(timeout=60)
        return self.process.returncode, self.output

    def end(self, signum: int = signal.SIGTERM) -> tuple[int, str]:
        """Signal the first process; give exit status and output."""
        self.process.send_signal(signum)
        return self.wait()

    def clean_up(self) -> None:
        """Kill what is left of it."""
        if not self.is_over:
            self.signal_all(signal.SIGKILL)
        self.process.wait(timeout=60)
        os.close(self._life)


def arguments(*command: str) -> list[str]:
    """Give the command line of a management command."""
    return [sys.executable, "-m", "django", *command]


def variables(settings: str, options: dict[str, object]) -> dict[str, str]:
    """Give the variables that choose the settings, and the options of tests.processes.impatient."""
    return {
        "DJANGO_SETTINGS_MODULE": settings,
        "DJ_QUEUE_TEST_OPTIONS": json.dumps(options),
        "PYTHONUNBUFFERED": "1",
    }
