"""The command line: python -m benchmarks SCENARIO… --database ADDRESS."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from benchmarks import machine, peers, report
from benchmarks.contest import ContestantFailed
from benchmarks.databases import EXPECTED, Databases, Refused, server
from benchmarks.figures import Table
from benchmarks.progress import Progress
from benchmarks.rounds import Run
from benchmarks.scenarios import (
    chaos,
    claims,
    correctness,
    dashboard,
    drain,
    enqueueing,
    hot_key,
    latency,
    memory,
    outage,
)

SCENARIOS: dict[str, Callable[[Run], list[Table]]] = {
    "enqueue": enqueueing.enqueue,
    "enqueue-all": enqueueing.enqueue_all,
    "drain": drain.drain,
    "latency": latency.latency,
    "claim-depth": claims.claim_depth,
    "dispatch-depth": claims.dispatch_depth,
    "selectors": claims.selectors,
    "two-databases": drain.two_databases,
    "outage": outage.outage,
    "correctness": correctness.correctness,
    "hot-key": hot_key.hot_key,
    "chaos": chaos.chaos,
    "dashboard": dashboard.dashboard,
    "memory": memory.memory,
}
INSTALL, ALL = "install-peers", "all"


def main(arguments: Sequence[str]) -> int:
    """Run scenarios; 1 when one found a violation, 2 when the command line cannot be followed."""
    options = _parser().parse_args(arguments)
    # As ctrl-C: the databases are dropped and the processes ended.
    signal.signal(signal.SIGTERM, _interrupted)
    try:
        if INSTALL in options.scenarios:
            peers.install(options.peers_directory.resolve())
            return 0
        return _run(options, arguments)
    except Refused as refused:
        print(f"python -m benchmarks: {refused}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; databases dropped", file=sys.stderr)
        return 130


def _run(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    if not options.database:
        raise Refused(f"expected --database to be {EXPECTED}, got nothing")
    first = server("--database", options.database)
    second = (
        server("--second-database", options.second_database) if options.second_database else first
    )
    contestants = peers.chosen(options.only)
    tables: list[Table] = []
    with Databases() as databases:
        run = Run(
            server=first,
            second=second,
            contestants=contestants,
            peers=options.peers_directory.resolve(),
            databases=databases,
            progress=Progress(),
            rounds=options.rounds,
            jobs=options.jobs,
            seconds=options.seconds,
        )
        for name in _named(first.scheme, options.scenarios):
            found = _tables(run, name)
            tables += found
            if options.json != "-":
                report.show(found)
        source = machine.describe(run, arguments)
    _write(options.json, report.as_json(tables, source) + "\n")
    _write(options.markdown, report.markdown(tables, source))
    for failure in run.failures:
        print(f"FAILED: {failure}", file=sys.stderr)
    return 1 if run.failures else 0


def _tables(run: Run, name: str) -> list[Table]:
    """Run one scenario; when ours fails in it, the others are still of interest."""
    try:
        return SCENARIOS[name](run)
    except ContestantFailed as failed:
        run.failures.append(f"{name}: {failed}")
        return []


def _named(scheme: str, names: Sequence[str]) -> list[str]:
    """Spell out "all", which leaves out what the server cannot do."""
    if ALL not in names:
        return list(names)
    return [name for name in SCENARIOS if scheme != "sqlite" or name != "outage"]


def _write(target: str | None, text: str) -> None:
    if target == "-":
        print(text, end="")
    elif target:
        Path(target).write_text(text, encoding="utf-8")


def _interrupted(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Compare dj_queue with its peers. docs/benchmarks.md explains the scenarios.",
    )
    add = parser.add_argument
    add(
        "scenarios",
        nargs="+",
        choices=[*SCENARIOS, ALL, INSTALL],
        metavar="SCENARIO",
        help=f"{', '.join(SCENARIOS)} or {ALL}; or {INSTALL}, which makes the peers' environments",
    )
    add("--database", metavar="ADDRESS", help=EXPECTED)
    add("--second-database", metavar="ADDRESS", help="where the second queue is (default: there)")
    add("--rounds", type=_positive(int), default=3, help="samples of each contestant (default: 3)")
    add("--jobs", type=_positive(int), help="how many (default: the scenario's)")
    add(
        "--seconds",
        type=_positive(float),
        default=15.0,
        help="the longest one sample may take, for slow contestants (default: 15)",
    )
    add("--peers-directory", type=Path, default=peers.DEFAULT_DIRECTORY, metavar="DIRECTORY")
    add("--only", metavar="NAMES", help=f"some of {', '.join(peers.CONTESTANTS)}")
    add("--json", metavar="FILE", help="write the results, samples included; - is stdout")
    add("--markdown", metavar="FILE", help="write the results as a page of docs/benchmarks")
    return parser


def _positive(kind: Callable[[str], float]) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = 0
        if value <= 0:
            raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
        return value

    return read
