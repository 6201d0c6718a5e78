"""Decides what bin/test runs: the servers there are, a row for each vendor and each check."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import environment
import servers
from environment import Missing
from suite import Row

CHECKS = ("lint", "wheel", "docs")
SERVER_VENDORS = ("postgresql", "mariadb", "mysql")
VENDORS = ("sqlite", *SERVER_VENDORS)
NAMES = (*CHECKS, *VENDORS, "mixed")
DRIVERS = {"postgresql": "postgres", "mariadb": "mysql", "mysql": "mysql"}
MIXED = {"default": "postgresql", "queue": "mariadb", "bulk": "mysql"}
COMBINATION = re.compile(r"py(\d)(\d+)-django\d+-(\w+)")


@dataclass
class Plan:
    """What is there to test with; `missing` maps a vendor to its remedy."""

    python: Path
    directory: Path
    pytest_arguments: list[str]
    versions: dict[str, str] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def prepare(self, vendors: set[str], stack: ExitStack, say: Callable[[str], None]) -> None:
        """Install drivers and start servers; `stack` stops them."""
        code = "import sqlite3; print(sqlite3.sqlite_version)"
        try:
            environment.install_browser()
        except Missing as error:
            say(f"browser: not available, its tests are skipped: {error}")
        self.versions["sqlite"] = environment.run([str(self.python), "-c", code])[1].strip()
        for vendor in SERVER_VENDORS:
            if vendor not in vendors:
                continue
            try:
                environment.install_driver(self.python, DRIVERS[vendor])
                server = servers.get(vendor, self.python)
            except Missing as error:
                self.missing[vendor] = str(error)
                say(f"{vendor}: not available")
                continue
            stack.callback(server.stop)
            self.versions[vendor] = server.version
            self.addresses[servers.variable(vendor)] = server.url
            say(f"{vendor}: {server.version} at {server.url.rpartition('@')[2]}")

    def vendor(self, vendor: str) -> Row:
        """Give the row of one vendor on the default combination."""
        if vendor in self.missing:
            return Row(vendor, remedy=self.missing[vendor])
        return self._suite(vendor, self.versions[vendor], vendor)

    def mixed(self) -> Row:
        """Give the row of databases of different vendors, SQLite in place of a missing one."""
        chosen = {
            alias: vendor if vendor not in self.missing else "sqlite"
            for alias, vendor in MIXED.items()
        }
        if set(chosen.values()) == {"sqlite"}:
            return Row("mixed", remedy="make one of postgresql, mariadb and mysql available")
        databases = ",".join(f"{alias}={vendor}" for alias, vendor in chosen.items())
        return self._suite("mixed", "+".join(chosen.values()), databases)

    def check(self, name: str, tox: Path) -> Row:
        """Give the row of a tox environment that is not a suite."""
        command = [str(tox), "-m", "tox", "run", "-q", "-e", name]
        return Row(name, command=command, environment=self._environment())

    def combination(self, name: str, vendor: str, tox: Path) -> Row:
        """Give the row of one tox environment of the matrix."""
        if vendor in self.missing:
            return Row(name, remedy=self.missing[vendor])
        junit = self.directory / f"{name}.xml"
        command = [str(tox), "-m", "tox", "run", "-q", "-e", name, "--", *self._arguments(junit)]
        return Row(name, self.versions[vendor], command, self._environment(), junit)

    def _suite(self, name: str, version: str, databases: str) -> Row:
        junit = self.directory / f"{name}.xml"
        command = [str(self.python), "-m", "pytest", *self._arguments(junit)]
        chosen = {
            "DJ_QUEUE_TEST_DATABASES": databases,
            # Rows share servers; each has its own databases there.
            "DJ_QUEUE_TEST_SUFFIX": os.environ.get("DJ_QUEUE_TEST_SUFFIX", "") + name,
        }
        return Row(name, version, command, self._environment() | chosen, junit)

    def _arguments(self, junit: Path) -> list[str]:
        # The cache would be written by several runs at once.
        return [f"--junitxml={junit}", "-p", "no:cacheprovider", *self.pytest_arguments]

    def _environment(self) -> dict[str, str]:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("DJ_QUEUE_TEST_") and name != "DJANGO_SETTINGS_MODULE"
        }
        return {**inherited, "PYTHONUNBUFFERED": "1", **self.addresses}


def combinations(tox: Path) -> list[tuple[str, str, str]]:
    """List the suites of tox.ini as (name, Python version, vendor), in tox's order."""
    status, output = environment.run([str(tox), "-m", "tox", "list", "--no-desc", "-q"])
    if status:
        raise Missing(f"tox could not read tox.ini:\n{output}")
    found = (COMBINATION.fullmatch(line.strip()) for line in output.splitlines())
    return [(m[0], f"{m[1]}.{m[2]}", m[3]) for m in found if m]


def show_interpreters() -> None:
    """Make every Python 3 that pyenv has answer by its name, after those chosen already."""
    if not shutil.which("pyenv"):
        return
    status, output = environment.run(["pyenv", "versions", "--bare"])
    newest = {}
    for line in output.splitlines() if status == 0 else ():
        if found := re.fullmatch(r"\s*(3\.\d+)\.(\d+)\s*", line):
            newest[found[1]] = max(int(found[2]), newest.get(found[1], 0))
    # pyenv's own python3 sets the variable to the version it runs.
    chosen = [each for each in os.environ.get("PYENV_VERSION", "").split(":") if each]
    added = [f"{minor}.{patch}" for minor, patch in newest.items()]
    if added:
        os.environ["PYENV_VERSION"] = ":".join(dict.fromkeys(chosen + added))


def has_interpreter(version: str) -> bool:
    """Tell whether python3.X answers by its name, or is the one that runs this."""
    if version == f"{sys.version_info[0]}.{sys.version_info[1]}":
        return True
    program = shutil.which(f"python{version}")
    return bool(program) and environment.run([program, "--version"])[0] == 0
