"""What bin/test decides: which combination runs what, in which order, and what it says of it."""

import json
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "bin"))

import environment
import history
import interpreters
import plan
import report
from suite import Row

LOADER = SourceFileLoader("bin_test", str(Path(plan.__file__).with_name("test")))
bin_test = module_from_spec(spec_from_loader("bin_test", LOADER))
LOADER.exec_module(bin_test)
NAMES = ["py311-django52-sqlite", "py312-django52-sqlite", "py312-django61-sqlite",
         "py313-django60-sqlite", "py313-django61-sqlite"]  # fmt: skip


def test_the_oldest_and_the_newest_combination_run_all_and_the_middle_shares() -> None:
    assert plan.shared(NAMES, own="py313-django61-sqlite") == {
        "py311-django52-sqlite": "1/1",
        "py312-django52-sqlite": "1/3",
        "py312-django61-sqlite": "2/3",
        "py313-django60-sqlite": "3/3",
    }


def test_a_row_that_runs_an_old_combination_leaves_the_newest_to_tox() -> None:
    assert plan.shared(NAMES, own="py312-django52-sqlite") == {
        "py311-django52-sqlite": "1/1",
        "py312-django61-sqlite": "1/2",
        "py313-django60-sqlite": "2/2",
        "py313-django61-sqlite": "1/1",
    }


def test_an_active_environment_is_not_what_others_are_made_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # bin/test in a shell where .venv is active would clear the environment that runs it.
    active = tmp_path / "python"
    active.symlink_to(sys.executable)
    before = environment.interpreter()

    monkeypatch.setattr(sys, "executable", str(active))

    assert environment.interpreter() == before


def test_the_supported_pythons_are_those_of_tox() -> None:
    assert interpreters.supported() == ["3.11", "3.12", "3.13"]


@pytest.fixture
def remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what this test remembers apart."""
    monkeypatch.setattr(history, "FILE", tmp_path / "seconds.json")


def rows(**seconds: float) -> list[list[Row]]:
    """Give lanes of one row each that passed after so many seconds."""
    return [[Row(name, junit=Path(), passed=1, seconds=each)] for name, each in seconds.items()]


def test_what_took_long_runs_first_and_the_time_is_foretold(remembered: None) -> None:
    lanes = rows(sqlite=100.0, mixed=400.0, mysql=250.0)
    first = history.expectation(lanes, 2)

    history.keep([row for lane in lanes for row in lane])

    assert first == "expect about 6 minutes (a guess, before the first run)"
    assert [lane[0].name for lane in history.slowest_first([*lanes, []])] == [
        "mixed", "mysql", "sqlite"]  # fmt: skip
    # No row can be halved: 750 seconds by two are less than the longest.
    assert history.expectation(lanes, 2) == "expect about 7 minutes (as in the last run here)"
    assert history.expectation(lanes, 1) == "expect about 13 minutes (as in the last run here)"


def test_a_row_that_failed_foretells_nothing(remembered: None) -> None:
    lanes = rows(sqlite=1.0)
    lanes[0][0].failed = 1

    history.keep(lanes[0])

    assert json.loads(history.FILE.read_text()) == {}


def test_the_last_failures_are_those_of_pytests_caches(tmp_path: Path) -> None:
    for row, failed in {"mysql": {}, "mixed": {"tests/test_x.py::test_y": True}}.items():
        cache = tmp_path / row / "v" / "cache"
        cache.mkdir(parents=True)
        (cache / "lastfailed").write_text(json.dumps(failed))
    (tmp_path / "sqlite").mkdir()

    assert history.failed_rows(tmp_path) == {"mixed"}
    assert history.failed_rows(tmp_path / "nothing ran yet") == set()


def test_what_failed_is_run_again_where_it_failed_combinations_included() -> None:
    def chosen(*arguments: str, failed: set[str]) -> tuple[set[str], set[str]]:
        options = bin_test.parse(["--last-failed", *arguments])
        bin_test.choose_failed(options, failed)
        return options.only, set(options.matrix)

    failed = {"mixed", "py312-django60-sqlite"}

    assert chosen(failed=failed) == ({"mixed"}, {"sqlite"})
    assert chosen("--only", "sqlite", failed=failed) == (set(), {"sqlite"})
    assert chosen("--only", "mysql", failed=failed) == (set(), set())
    assert chosen(failed=set()) == (set(), set())


def test_without_a_terminal_a_line_comes_before_30_seconds_are_over(
    capsys: pytest.CaptureFixture[str],
) -> None:
    seconds = iter(range(1000, 1061))
    screen = report.Screen(clock=lambda: next(seconds))

    printed = []
    for _ in range(60):
        screen.watch(["sqlite 45%", "lint"])
        printed.append(capsys.readouterr().out)

    assert [second for second, text in enumerate(printed, start=1) if text] == [25, 50]
    assert printed[24] == "25 s: sqlite 45%, lint\n"


def test_skipped_tests_are_counted_by_reason_and_row() -> None:
    one, two = Row("sqlite"), Row("mysql")
    one.skips.update(["Skipped: needs a server"] * 3 + ["Skipped: needs arrays"] * 4)
    two.skips.update(["Skipped: needs arrays"] * 2)

    assert report.skips([one, two]).splitlines() == [
        "",
        "skipped:",
        "      6  needs arrays (sqlite, mysql)",
        "      3  needs a server (sqlite)",
    ]
    assert report.skips([Row("sqlite")]) == ""


def test_a_row_that_may_fail_counts_no_failure() -> None:
    row = Row("djangomain", passed=5, forgiven=2, junit=Path())

    assert report.table([row]).splitlines()[-1].split() == ["djangomain", "-", "5", "(2)", "0", "0"]
    assert report.totals([row], missed=[]) == "5 passed, 0 failed, 0 skipped"
