"""Where a run's time goes: set-up, test and tear-down of each kind of test, beside --durations."""

from collections import Counter, defaultdict

import pytest

PHASES = ("setup", "call", "teardown")


class Durations:
    """A plugin of pytest that adds up what it reports; a kind is a folder of tests/."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add a phase of a test."""
        _, _, path = report.location[0].partition("/")
        kind = path.partition("/")[0] if "/" in path else "tests"
        self.seconds[kind][report.when or ""] += report.duration
        self.seconds[kind]["tests"] += report.when == "call"

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print a line for each kind, the slowest first."""
        terminalreporter.section("seconds of each kind")
        terminalreporter.write_line(
            f"{'kind':15}{'tests':>7}{'set-up':>9}{'test':>9}{'tear-down':>11}"
        )
        total: Counter[str] = sum(self.seconds.values(), Counter())
        kinds = sorted(self.seconds.items(), key=lambda each: -sum(each[1].values()))
        for kind, spent in [*kinds, ("together", total)]:
            setup, call, teardown = (spent[phase] for phase in PHASES)
            terminalreporter.write_line(
                f"{kind:15}{spent['tests']:7.0f}{setup:9.1f}{call:9.1f}{teardown:11.1f}"
            )
