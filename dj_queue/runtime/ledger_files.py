"""Files of ledgers, in memory that outlives every process of this host: who has died is known.

A file is locked for as long as its process, or the supervisor of that process, lives.
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from hashlib import sha256
from pathlib import Path

from django.utils.crypto import salted_hmac

from dj_queue.events import log
from dj_queue.models.ids import new_id
from dj_queue.routers.registry import APPLICATION_ALIAS, physical

LAYOUT = "1"
"""Of what a file holds: another version of dj_queue does not read what it cannot understand."""
SHARED_MEMORY = Path("/dev/shm")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
DIGITS = 16
_complained: set[str] = set()


class LedgerFile:
    """An open file; once locked, until each process that inherited it has let it go, or ended."""

    def __init__(self, path: Path, number: int) -> None:
        self.path = path
        self.number = number

    def lock(self) -> bool:
        """Lock the file; false where a process lives that it belongs to."""
        try:
            fcntl.flock(self.number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def remove(self) -> None:
        """Remove the file; whoever has it open keeps it."""
        with suppress(OSError):
            self.path.unlink()

    def close(self) -> None:
        """Close the file; it stays open, and locked, where it is mapped into memory."""
        os.close(self.number)


def new_file(alias: str, size: int) -> LedgerFile | None:
    """Make a file of so many bytes for a process on this database; None where there is no room.

    That is logged once: without a file, nobody knows what had started where a supervisor is killed
    together with its processes.
    """
    unique = new_id().hex  # Nobody looks at this name: it is not locked yet.
    try:
        with _directory() as (path, directory):
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            file = LedgerFile(path / unique, os.open(unique, flags, 0o600, dir_fd=directory))
        try:
            fcntl.flock(file.number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Written, not truncated to that length: a page without room would end the process.
            if os.write(file.number, bytes(size)) != size:
                raise OSError(f"expected room for {size} bytes in {path}, got less")
            name = f"{LAYOUT}-{_host()}-{_boot()}-{_identity(alias)}-{unique}"
            file.path = file.path.rename(path / name)
        except OSError:
            file.remove()
            file.close()
            raise
    except OSError as error:
        _complain(alias, error)
        return None
    return file


def files_of(alias: str) -> Iterator[LedgerFile]:
    """Open the files of this database, of this boot; remove those of earlier boots of this host.

    Of what these had on a disk some was not written.
    """
    for name in _names():
        layout, host, boot, identity, _ = name.split("-")
        is_ours = (layout, boot, identity) == (LAYOUT, _boot(), _identity(alias))
        is_old = host == _host() and boot != _boot()
        file = _open(name) if is_ours or is_old else None
        if file is None:
            continue
        if is_ours:
            yield file
        else:
            file.remove()
            file.close()


def _open(name: str) -> LedgerFile | None:
    with suppress(OSError), _directory() as (path, directory):
        number = os.open(name, os.O_RDWR | os.O_NOFOLLOW, dir_fd=directory)
        file = LedgerFile(path / name, number)
        found = os.fstat(number)
        if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid():
            return file
        file.close()
    return None


def _names() -> list[str]:
    with suppress(OSError), _directory() as (_, directory):
        return [name for name in sorted(os.listdir(directory)) if name.count("-") == 4]
    return []


@contextmanager
def _directory() -> Iterator[tuple[Path, int]]:
    """Open the directory of this user, which nobody else may write to; raise OSError."""
    parent = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    path = parent / f"dj_queue-{os.geteuid()}"
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    number = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        found = os.fstat(number)
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
            raise PermissionError(f"expected {path} to be a directory of this user's alone")
        yield path, number
    finally:
        os.close(number)


def _host() -> str:
    return sha256(socket.gethostname().encode()).hexdigest()[:DIGITS]


@cache
def _boot() -> str:
    """Name this boot of the host; where it has no name, by its minute."""
    with suppress(OSError):
        return BOOT_ID.read_text().replace("-", "").strip()
    since_boot = time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
    return str(int((time.time() - since_boot) // 60))


def _identity(alias: str) -> str:
    """Name a database of this deployment: no other deployment's file may be touched."""
    text = repr([alias, physical(alias), physical(APPLICATION_ALIAS)])
    return salted_hmac("dj_queue.ledger", text, algorithm="sha256").hexdigest()[:DIGITS]


def _complain(alias: str, error: OSError) -> None:
    if alias not in _complained:
        _complained.add(alias)
        log("ledger_not_kept", database=alias, error=repr(error))
