"""Where a result comes from: the machine, the versions, the command."""

from __future__ import annotations

import os
import platform
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from benchmarks.rounds import Run

GIGABYTE = 1024**3
PLACES = ("--peers-directory", "--json", "--markdown")
PASSWORD = re.compile(r"(://[^:/@]*:)[^@/]+@")


def describe(run: Run, arguments: Sequence[str]) -> dict[str, str]:
    """Give what must be known to repeat a run, by name; no path of this machine is in it."""
    system = f"{platform.system()} {platform.release()}"
    servers = dict.fromkeys(f"{each.name} {each.version}" for each in (run.server, run.second))
    versions = {
        name: ", ".join(f"{package} {version}" for package, version in found.items())
        for name, found in run.versions.items()
    }
    return {
        "machine": f"{_cpu()}, {os.cpu_count()} CPUs, {_memory()} GB RAM, {system}",
        "server": ", ".join(servers),
        **versions,
        "command": describe_command(arguments),
    }


def describe_command(arguments: Sequence[str]) -> str:
    """Give the command line for others: without directories of this machine and passwords."""
    return f"python -m benchmarks {' '.join(map(shlex.quote, _without_places(arguments)))}"


def _without_places(arguments: Sequence[str]) -> list[str]:
    left, rest = [], iter(arguments)
    for argument in rest:
        name, is_one, value = argument.partition("=")
        if name in PLACES:
            value = value if is_one else next(rest, "")
            if not Path(value).is_absolute():
                left += [name, value]
        else:
            left.append(PASSWORD.sub(r"\1…@", argument))
    return left


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def _memory() -> int:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIGABYTE)
