"""The file that tells others a process's id, and keeps a second one from starting."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def pidfile(path: Path) -> Iterator[None]:
    """Keep this process's id in a file inside the block.

    A file that is left by a process that is gone is taken over. Raises BlockingIOError while
    another process keeps it, and OSError where it cannot be written.
    """
    with path.open("a") as file:
        # Of the process, not of the file: children do not inherit it, and it ends with a kill.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
