"""What a child of a task tells of itself. Imports no Django: another interpreter may run it."""

import json
import os
import signal
import stat
from collections.abc import Iterable
from typing import Any

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
Files = set[tuple[int, int]]


def signals_here() -> list[Any]:
    """Give the names of this process's handlers, and the signals that it blocks."""
    handlers: list[Any] = [signal.getsignal(each) for each in STOPPING]
    names = [getattr(each, "__name__", None) or each.name for each in handlers]
    return [names, sorted(signal.pthread_sigmask(signal.SIG_BLOCK, []))]


def files_here(names: Iterable[str]) -> Files:
    """Give the sockets, and the files of these names, that are open in this process."""
    named = [os.stat(each) for each in names if os.path.exists(each)]
    files, found = {(each.st_dev, each.st_ino) for each in named}, set()
    for number in os.listdir("/dev/fd"):
        try:
            each = os.fstat(int(number))
        except OSError:
            continue  # The listing's own.
        if stat.S_ISSOCK(each.st_mode) or (each.st_dev, each.st_ino) in files:
            found.add((each.st_dev, each.st_ino))
    return found


def report(names: list[str], inherited: Files, target: Any) -> None:
    """Tell of signals, and how many of these files this process has too."""
    target.send([signals_here(), len(files_here(names) & inherited)])
    target.close()


if __name__ == "__main__":
    print(json.dumps(signals_here()))
