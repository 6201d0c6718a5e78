"""What every scenario is given, and the alternation: ours, theirs, ours, theirs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.contest import Contest, ContestantFailed, NotOffered
from benchmarks.databases import Databases, Refused, Server
from benchmarks.figures import Row
from benchmarks.peers import OURS, Contestant
from benchmarks.progress import Progress

INSTALL = "python -m benchmarks install-peers"


@dataclass
class Run:
    """What the command line asks for; `versions` is filled in by the contestants on the way."""

    server: Server
    second: Server
    contestants: Sequence[Contestant]
    peers: Path
    databases: Databases
    progress: Progress
    rounds: int = 3
    jobs: int | None = None
    seconds: float = 15.0
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    @contextmanager
    def contest(
        self, contestant: Contestant, *servers: Server, **options: Any
    ) -> Iterator[Contest]:
        """Open a contest on fresh databases, on the first server when none is named."""
        places = servers or (self.server,)
        with Contest(contestant, self.peers, self.databases, places, **options) as contest:
            if contestant.name not in self.versions:
                self.versions[contestant.name] = contest.call("versions")
            yield contest

    def ours(self) -> Contestant:
        """Give our contestant; raise Refused when `--only` leaves it out."""
        for contestant in self.contestants:
            if contestant.name == OURS:
                return contestant
        raise Refused(f"expected --only to include {OURS!r} for this scenario, got the peers alone")


Measure = Callable[[Contest], Sequence[float]]
"""Gives one sample of every figure."""


def compare(run: Run, what: str, measure: Measure, figures: int = 1) -> list[tuple[Row, ...]]:
    """Measure every contestant in every round, each time on fresh databases.

    Gives the rows of each figure. A peer that fails is out and said to be; ours may not.
    """
    samples: dict[str, list[Sequence[float]]] = {each.name: [] for each in run.contestants}
    notes = {each.name: _why_not(run, each) for each in run.contestants}
    able = [each for each in run.contestants if not notes[each.name]]
    with run.progress.steps(what, run.rounds * len(able)) as step:
        for number in range(run.rounds):
            for contestant in able:
                name = contestant.name
                step(f"round {number + 1} of {run.rounds}, {name}")
                if notes[name]:
                    continue
                try:
                    with run.contest(contestant) as contest:
                        samples[name].append(measure(contest))
                except NotOffered as missing:
                    notes[name] = str(missing)
                except ContestantFailed as failed:
                    if name == OURS:
                        raise
                    print(failed, file=sys.stderr)
                    notes[name] = f"failed in round {number + 1}"
    return [
        tuple(
            Row(
                each.name,
                tuple(sample[figure] for sample in samples[each.name]),
                notes[each.name] or f"keeps {each.keeps}",
            )
            for each in run.contestants
        )
        for figure in range(figures)
    ]


def alternate(run: Run, what: str, cases: Mapping[str, Callable[[], float]]) -> tuple[Row, ...]:
    """Measure cases of ours in turn, so many rounds; give a row for each."""
    samples: dict[str, list[float]] = {label: [] for label in cases}
    with run.progress.steps(what, run.rounds * len(cases)) as step:
        for number in range(run.rounds):
            for label, measure in cases.items():
                step(f"round {number + 1} of {run.rounds}, {label}")
                samples[label].append(measure())
    return tuple(Row(label, tuple(found)) for label, found in samples.items())


def _why_not(run: Run, contestant: Contestant) -> str:
    if run.server.vendor not in contestant.vendors:
        return f"does not run on {run.server.name}"
    if not contestant.python(run.peers).exists():
        return f"not installed: run `{INSTALL}`"
    return ""
