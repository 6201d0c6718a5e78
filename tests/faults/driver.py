"""Runs management commands for planted projects, each list of them in a process of its own.

Started once by tests/faults/conftest.py. It has Django imported but not set up, and forks for each
request: one JSON object a line with the project's directory, command lines and the answer's path.
"""

import io
import json
import os
import shlex
import signal
import sys
import time
import traceback
from contextlib import redirect_stderr, redirect_stdout, suppress
from importlib import import_module
from typing import Any

import django
from django.core.exceptions import ImproperlyConfigured
from django.core.management import ManagementUtility

EARLY = (
    "django.core.management.commands.check",
    "django.db.migrations.executor",
    "django.db.backends.sqlite3.base",
    "django.db.backends.postgresql.base",
    "django.db.backends.mysql.base",
    "django.test",
)


def run(line: str) -> dict[str, Any]:
    """Run one command line; give its status, what it printed and how long it took."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    began = time.monotonic()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            if line.startswith("-c "):
                exec(line.removeprefix("-c "), {})
            else:
                ManagementUtility(["manage.py", *shlex.split(line)]).execute()
        except SystemExit as ended:
            status = int(ended.code or 0)
        except Exception:
            status = 1
            traceback.print_exc()
    seconds = time.monotonic() - began
    return {"status": status, "out": out.getvalue(), "err": err.getvalue(), "seconds": seconds}


def answer(request: dict[str, Any]) -> None:
    """Be the project's process: set Django up there and run the commands."""
    signal.alarm(request["seconds"])
    os.chdir(request["directory"])
    sys.path.insert(0, request["directory"])
    os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
    django.setup()
    outcomes = [run(line) for line in request["commands"]]
    with open(request["answer"], "w", encoding="utf-8") as file:
        json.dump(outcomes, file)


def serve() -> None:
    """Answer requests until there are no more."""
    # The script's own directory is no place to import from.
    sys.path.pop(0)
    for name in EARLY:
        with suppress(ImportError, ImproperlyConfigured):
            import_module(name)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                answer(json.loads(line))
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(0)  # Threads that hang in a connect must not keep it.
        os.waitpid(child, 0)
        print("done", flush=True)


if __name__ == "__main__":
    serve()
