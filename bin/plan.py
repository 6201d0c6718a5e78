"""Decides what bin/test runs: the servers there are, a row for each vendor and each check."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import environment
import interpreters
import poolers
import servers
from environment import Missing
from suite import Row

CHECKS = ("lint", "wheel", "docs")
SERVER_VENDORS = ("postgresql", "mariadb", "mysql")
VENDORS = ("sqlite", *SERVER_VENDORS)
SETTINGS = ("mixed", "naive", "pooled")
"""Rows of projects whose databases or settings are unlike the others."""
DEFAULTS = (*CHECKS, *VENDORS, *SETTINGS)
DJANGO_MAIN = "djangomain"
NAMES = (*DEFAULTS, DJANGO_MAIN)
DRIVERS = {"postgresql": "postgres", "mariadb": "mysql", "mysql": "mysql"}
MIXED = {"default": "postgresql", "queue": "mariadb", "bulk": "mysql"}
# Two ways to store a time: PostgreSQL knows time zones, the others do not.
NAIVE = {"default": "mariadb", "queue": "postgresql", "bulk": "postgresql"}
# What neither a time zone nor a pooler changes, or what starts servers and poolers of its own.
UNAFFECTED = ("faults", "properties", "races", "engines/test_plans.py",
              "engines/test_slot_plans.py")  # fmt: skip
COMBINATION = re.compile(r"py(\d)(\d+)-django\d+-(\w+)")
CACHES = environment.VENVS / "results"
# Without bytecode, each process that a test starts would compile the package again.
UNINHERITED = {"DJANGO_SETTINGS_MODULE", "PYTHONDONTWRITEBYTECODE"}


@dataclass
class Plan:
    """The servers and programs to test with; `missing` maps a vendor to its remedy."""

    python: Path
    directory: Path
    pytest_arguments: list[str]
    has_sqlite: bool
    versions: dict[str, str] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    pooler: str = ""

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

    def prepare_pooler(self, stack: ExitStack) -> None:
        """Start PgBouncer before the PostgreSQL server; `stack` stops it."""
        if "postgresql" in self.missing:
            self.missing["pooled"] = self.missing["postgresql"]
            return
        try:
            server = poolers.start_pgbouncer(
                self.addresses[servers.variable("postgresql")], self.python
            )
        except Missing as error:
            self.missing["pooled"] = str(error)
            return
        stack.callback(server.stop)
        self.pooler, self.versions["pooled"] = server.url, server.version

    @property
    def part(self) -> str:
        """What a row beside SQLite's runs: what touches no database is the same everywhere."""
        return "databases" if self.has_sqlite else ""

    def vendor(self, vendor: str) -> Row:
        """Give the row of one vendor on the default combination."""
        if vendor in self.missing:
            return Row(vendor, remedy=self.missing[vendor])
        part = "" if vendor == "sqlite" else self.part
        return self._suite(vendor, self.versions[vendor], vendor, part)

    def mixed(self) -> Row:
        """Give the row of databases of different vendors, SQLite in place of a missing one."""
        chosen = self._mixture(MIXED)
        if set(chosen.values()) == {"sqlite"}:
            return Row("mixed", remedy="make one of postgresql, mariadb and mysql available")
        return self._suite("mixed", "+".join(chosen.values()), joined(chosen), self.part)

    def naive(self) -> Row:
        """Give the row of a project without USE_TZ, SQLite in place of a missing vendor."""
        chosen = self._mixture(NAIVE)
        row = self._suite("naive", "+".join(chosen.values()), joined(chosen), "databases")
        row.environment["DJ_QUEUE_TEST_USE_TZ"] = "false"
        row.command += ignoring(UNAFFECTED)
        return row

    def pooled(self) -> Row:
        """Give the row of databases behind PgBouncer in transaction mode."""
        if "pooled" in self.missing:
            return Row("pooled", remedy=self.missing["pooled"])
        row = self._suite("pooled", self.versions["pooled"], "postgresql", "databases")
        row.environment[servers.variable("postgresql")] = self.pooler
        row.command += ignoring([*UNAFFECTED, "processes"])
        return row

    def _mixture(self, wanted: dict[str, str]) -> dict[str, str]:
        """Give the vendor of each alias that is there."""
        return {
            alias: vendor if vendor not in self.missing else "sqlite"
            for alias, vendor in wanted.items()
        }

    def check(self, name: str, tox: Path) -> Row:
        """Give the row of a tox environment that is not a suite."""
        command = [str(tox), "-m", "tox", "run", "-q", "-e", name]
        return Row(name, command=command, environment=self._environment())

    def matrix(self, vendor: str, tox: Path) -> list[Row]:
        """Give a row for each combination of tox.ini beside our own, and each missing Python."""
        if vendor in self.missing:
            return []
        found = combinations(tox, vendor)
        versions = dict.fromkeys(version for _, version in found)
        absent = [version for version in versions if not interpreters.answers(version)]
        names = [name for name, version in found if version not in absent]
        rows = [
            Row(f"python{version}", remedy=f"install Python {version}, so that it is on the PATH")
            for version in absent
        ]
        shares = shared(names, f"{tag(self.python)}-{vendor}")
        return rows + [self._combination(name, vendor, tox, part) for name, part in shares.items()]

    def django_main(self, tox: Path) -> Row:
        """Give the row of the next Django, on the vendor that costs least."""
        row = self._combination(f"py313-{DJANGO_MAIN}-sqlite", "sqlite", tox, "1/1")
        row.may_fail = True
        return row

    def _combination(self, name: str, vendor: str, tox: Path, part: str) -> Row:
        row = self._row(name, self.versions[vendor], {"DJ_QUEUE_TEST_PART": part})
        row.command[:0] = [str(tox), "-m", "tox", "run", "-q", "-e", name, "--"]
        return row

    def _suite(self, name: str, version: str, databases: str, part: str = "") -> Row:
        chosen = {
            "DJ_QUEUE_TEST_DATABASES": databases,
            # Rows share servers; each has its own databases there.
            "DJ_QUEUE_TEST_SUFFIX": os.environ.get("DJ_QUEUE_TEST_SUFFIX", "") + name,
            "DJ_QUEUE_TEST_PART": part,
        }
        row = self._row(name, version, chosen)
        row.command[:0] = [str(self.python), "-m", "pytest"]
        return row

    def _row(self, name: str, version: str, chosen: dict[str, str]) -> Row:
        """Give a suite's row, its command without the program."""
        junit = self.directory / f"{name}.xml"
        # A cache for each row: several are written at once, and --last-failed reads them.
        arguments = [f"--junitxml={junit}", "-o", f"cache_dir={CACHES / name}"]
        command = [*arguments, *self.pytest_arguments]
        return Row(name, version, command, self._environment() | chosen, junit)

    def _environment(self) -> dict[str, str]:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("DJ_QUEUE_TEST_") and name not in UNINHERITED
        }
        return {**inherited, "PYTHONUNBUFFERED": "1", **self.addresses}


def ignoring(paths: Iterable[str]) -> list[str]:
    """Give pytest's arguments that leave out these files and folders of tests/."""
    return [f"--ignore=tests/{path}" for path in paths]


def joined(chosen: dict[str, str]) -> str:
    """Write a vendor for each alias as DJ_QUEUE_TEST_DATABASES takes them."""
    return ",".join(f"{alias}={vendor}" for alias, vendor in chosen.items())


def tag(python: Path) -> str:
    """Name the combination of an environment as tox.ini does, like py313-django61."""
    code = (
        "import sys, django;"
        "print('py%d%d-django%d%d' % (*sys.version_info[:2], *django.VERSION[:2]))"
    )
    return environment.run([str(python), "-c", code])[1].strip()


def combinations(tox: Path, vendor: str) -> list[tuple[str, str]]:
    """List the suites that tox.ini has for a vendor as (name, Python version), oldest first."""
    status, output = environment.run([str(tox), "-m", "tox", "list", "--no-desc", "-q"])
    if status:
        raise Missing(f"tox could not read tox.ini:\n{output}")
    found = (COMBINATION.fullmatch(line.strip()) for line in output.splitlines())
    return [(m[0], f"{m[1]}.{m[2]}") for m in found if m and m[3] == vendor]


def shared(names: list[str], own: str) -> dict[str, str]:
    """Give the part of the suite that each combination runs; `own` is the one that runs it all.

    Every test runs on the oldest combination, on the newest, and on one of those in between.
    """
    others = [name for name in names if name != own]
    whole = {names[0], names[-1]} - {own}
    middle = [name for name in others if name not in whole]
    shares = {name: f"{place}/{len(middle)}" for place, name in enumerate(middle, start=1)}
    return {name: shares.get(name, "1/1") for name in others}
