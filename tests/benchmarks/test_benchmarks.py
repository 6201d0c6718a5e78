"""python -m benchmarks: its errors, its figures, and a tiny run on SQLite."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.figures import Row, Table, percentile
from benchmarks.machine import describe_command
from benchmarks.report import cells, markdown, plain

ROOT = Path(__file__).resolve().parents[2]


def run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command with its temporary files in this directory."""
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(directory)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["drain"], "expected --database to be postgresql://user:password@host:port"),
        (["drain", "--database", "oracle://x"], "or sqlite, got 'oracle://x'"),
        (["drain", "--database", "postgresql://host"], "got 'postgresql://host'"),
        (["drain", "--database", "mysql://root@host:port"], "got 'mysql://root@host:port'"),
        (
            ["drain", "--database", "sqlite", "--second-database", "postgresql://"],
            "expected --second-database to be",
        ),
        (["outage", "--database", "sqlite"], "expected --database of outage to be a server"),
        (["drain", "--database", "sqlite", "--only", "celery"], "expected --only to name some of"),
        (["selectors", "--database", "sqlite", "--only", "dj-queue"], "--only to include 'ours'"),
        (["drain", "--database", "sqlite", "--jobs", "0"], "expected a number above 0, got '0'"),
        (["brew"], "invalid choice: 'brew'"),
    ],
)
def test_a_command_line_that_cannot_be_followed_is_refused(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = run(tmp_path, *arguments)

    assert message in done.stderr
    assert done.returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_ours_enqueues_and_drains(tmp_path: Path) -> None:
    scenarios = ["enqueue", "enqueue-all", "drain"]
    few = ["--jobs", "60", "--rounds", "1", "--only", "ours,dj-queue"]

    done = run(
        tmp_path,
        *scenarios,
        "--database",
        "sqlite",
        *few,
        f"--peers-directory={tmp_path}",
        "--json=-",
    )

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [table["title"].partition(",")[0] for table in found["tables"]] == scenarios
    for table in found["tables"]:
        ours, theirs = table["rows"]
        assert ours["median"] > 0
        assert theirs["note"] == "not installed: run `python -m benchmarks install-peers`"
    assert found["source"]["command"].endswith("--only ours,dj-queue --json -")
    assert list(tmp_path.iterdir()) == []


def test_ours_is_correct_at_speed(tmp_path: Path) -> None:
    done = run(tmp_path, "correctness", "--database", "sqlite", "--jobs", "80", "--json", "-")

    assert done.returncode == 0, done.stderr
    (table,) = json.loads(done.stdout)["tables"]
    assert [row["median"] for row in table["rows"]] == [80, 80, 0, 0, 80]


def test_ours_loses_nothing_when_workers_are_killed(tmp_path: Path) -> None:
    done = run(tmp_path, "chaos", "--database", "sqlite", "--jobs", "2000", "--json", "-")

    assert done.returncode == 0, done.stderr
    (table,) = json.loads(done.stdout)["tables"]
    found = {row["label"]: row["median"] for row in table["rows"]}
    assert found["finished or failed"] == found["enqueued"] == 2_000
    assert found["kills"] >= 3


def test_ratio_is_ours_by_theirs_of_the_medians() -> None:
    ours, theirs = Row("ours", (10.0, 1_000.0, 30.0)), Row("theirs", (5.0, 15.0, 900.0))

    table = Table("drain", "jobs/s", (ours, theirs, Row("none", (), "not offered")))

    assert [row.median for row in table.rows[:2]] == [30, 15]
    assert [table.ratio(row) for row in table.rows] == [None, 2, None]
    assert cells(table, theirs) == ["theirs", "15", "5 – 900", "2.00", ""]
    assert cells(table, table.rows[2]) == ["none", "–", "–", "–", "not offered"]


def test_a_row_without_samples_has_no_median() -> None:
    with pytest.raises(ValueError, match="expected peer to have samples, got none"):
        _ = Row("peer").median


@pytest.mark.parametrize(("percent", "expected"), [(1, 1), (50, 50), (99, 99), (100, 100)])
def test_percentile_is_a_sample(percent: int, expected: int) -> None:
    assert percentile(range(100, 0, -1), percent) == expected


def test_a_page_has_its_source_and_every_row() -> None:
    table = Table("drain", "jobs/s", (Row("ours", (3.0,)), Row("peer", (2.0,))), ("Remark.",))

    page = markdown([table], {"machine": "two cores", "server": "SQLite 3", "command": "python"})

    assert "| machine | two cores |" in page
    assert "$ python\n" in page
    assert "| peer | 2 | 2 – 2 | 1.50 |  |" in page
    assert page.endswith("\nRemark.\n")
    assert "peer  2" in plain(table)


def test_a_command_that_is_published_tells_no_place_and_no_password() -> None:
    address = "postgresql://me:secret@127.0.0.1:5432"

    shown = describe_command(
        ["drain", "--database", address, "--peers-directory=/home/me", "--markdown", "docs/x.md"]
    )

    assert shown == (
        "python -m benchmarks drain --database 'postgresql://me:…@127.0.0.1:5432' "
        "--markdown docs/x.md"
    )


def test_pages_are_timed(tmp_path: Path) -> None:
    done = run(tmp_path, "dashboard", "--database", "sqlite", "--jobs", "40", "--json", "-")

    assert done.returncode == 0, done.stderr
    (table,) = json.loads(done.stdout)["tables"]
    assert table["title"] == "dashboard, SQLite, 40 finished, 4 ready, 4 failed"
    assert all(row["median"] > 0 for row in table["rows"])
