"""The demo's command, run as a user runs it, on a small source tree."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MANAGE = ROOT / "examples" / "demo" / "manage.py"
GOOD = {
    "tiny.py": b"def short():\n    return 1\n",
    "package/café.py": "# coding: latin-1\nPLACE = 'café'\nclass One:\n    pass".encode("latin-1"),
    "package/middle.py": b"class A:\n    def f(self):\n        def g():\n            pass\n"
    + b"        return g\n" + b"# filler\n" * 300,
    "large.py": b"async def longest():\n" + b"    await other('filler')\n" * 2500,
}  # fmt: skip
BAD = {
    "broken.py": b"def broken(:\n",
    "unreadable.py": b"OK = 1\n\nPLACE = 'caf\xe9'\n",
}
SKIPPED = {"site-packages/installed.py": b"pass\n", "notes.txt": b"no Python\n"}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a directory with a source tree, and room for the database files."""
    made = tmp_path_factory.mktemp("demo")
    for name, content in (GOOD | BAD | SKIPPED).items():
        path = made / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return made


@pytest.fixture(scope="module")
def first_run(directory: Path) -> subprocess.CompletedProcess[str]:
    """Give what came of a run that starts over."""
    return demo(directory, "--once", "--fresh")


def manage(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the demo's manage.py with its databases in `directory`."""
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "project.settings",
        "DJ_QUEUE_DEMO_VAR": str(directory / "var"),
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "90",
    }
    command = [sys.executable, str(MANAGE), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)


def demo(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the demo on the source tree."""
    return manage(directory, "demo", "--source", str(directory / "source"), *options)


def counts(output: str) -> dict[str, list[int]]:
    """Read the summary: jobs, finished and failed of each backend and database."""
    rows = re.findall(r"^(\w+) +(\S*) +(\d+) +(\d+) +(\d+) +\d+\.\d +\S+$", output, re.MULTILINE)
    return {f"{name} {place}".strip(): [int(n) for n in numbers] for name, place, *numbers in rows}


def test_summary_tells_what_each_backend_and_database_did(
    first_run: subprocess.CompletedProcess[str],
) -> None:
    assert first_run.returncode == 0, first_run.stdout + first_run.stderr
    assert counts(first_run.stdout) == {
        "default queue": [1, 1, 0],
        "alerts queue": [4, 2, 2],
        "bulk bulk_queue": [1, 1, 0],
        "queue queue.sqlite3": [5, 3, 2],
        "bulk_queue bulk_queue.sqlite3": [1, 1, 0],
        "together": [6, 4, 2],
    }


def test_files_that_python_cannot_read_fail_with_their_exception(
    first_run: subprocess.CompletedProcess[str],
) -> None:
    assert "failed (2)" in first_run.stdout
    assert "  broken.py: SyntaxError: " in first_run.stdout
    assert "  unreadable.py: UnicodeDecodeError: 'utf-8' codec" in first_run.stdout
    assert max(map(len, first_run.stdout.splitlines())) <= 90


def test_longest_functions_are_listed_in_order(
    first_run: subprocess.CompletedProcess[str],
) -> None:
    _, _, listed = first_run.stdout.partition("files measured: 4;")

    assert [line.split() for line in listed.splitlines()[3:]] == [
        ["2,501", "longest", "large.py"],
        ["4", "A.f", "package/middle.py"],
        ["2", "short", "tiny.py"],
    ]


@pytest.mark.usefixtures("first_run")
def test_second_run_surveys_again_beside_the_earlier_jobs(directory: Path) -> None:
    again = demo(directory, "--once")

    assert again.returncode == 0, again.stderr
    assert "; surveying again" in again.stdout
    assert counts(again.stdout)["together"] == [6, 4, 2]


@pytest.mark.usefixtures("first_run")
def test_run_after_a_stopped_one_goes_on_with_its_jobs(directory: Path) -> None:
    waiting = (
        "from survey.tasks import survey_file as task;"
        f"task.using(backend='bulk').enqueue({str(directory / 'source')!r}, 'tiny.py')"
    )
    assert manage(directory, "shell", "-c", waiting).returncode == 0

    resumed = demo(directory, "--once")

    assert resumed.returncode == 0, resumed.stderr
    assert "an earlier run was stopped; jobs it left to do: 1" in resumed.stdout
    assert counts(resumed.stdout)["together"] == [1, 1, 0]


@pytest.mark.usefixtures("first_run")
def test_job_that_fails_for_another_reason_than_its_file_is_a_failure(directory: Path) -> None:
    wrong = "from survey.tasks import survey_file; survey_file.enqueue(1, path='tiny.py')"
    assert manage(directory, "shell", "-c", wrong).returncode == 0

    resumed = demo(directory, "--once")

    assert resumed.returncode == 1
    assert "jobs that failed for another reason than their file: 1" in resumed.stderr


def test_source_without_python_files_is_refused(directory: Path) -> None:
    refused = manage(directory, "demo", "--once", "--source", str(directory / "nothing"))

    assert refused.returncode == 1
    assert "--source: expected a directory with Python files" in refused.stderr


def test_bin_demo_explains_itself_without_a_virtual_environment() -> None:
    command = [sys.executable, str(ROOT / "bin" / "demo"), "--help"]

    done = subprocess.run(command, capture_output=True, text=True, check=True)

    for option in ("--once", "--fresh", "--source DIR", "--port N", "DJ_QUEUE_DEMO_VAR"):
        assert option in done.stdout
