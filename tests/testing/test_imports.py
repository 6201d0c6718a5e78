"""dj_queue.testing is there for who asks for it, and needs no tool that it does not use."""

import subprocess
import sys
from importlib import import_module

import pytest

import dj_queue.testing
from dj_queue.testing import enqueued, running

HIDE = "import sys; sys.modules['pytest'] = sys.modules['hypothesis'] = None; "
SET_UP = "import django; django.setup(); "


def run(code):
    """Run code in a new process, in which neither pytest nor hypothesis can be imported."""
    command = [sys.executable, "-c", HIDE + SET_UP + code]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_package_does_not_import_its_test_tools():
    done = run("import dj_queue.backend; print(*[n for n in sys.modules if 'dj_queue.tes' in n])")

    assert (done.stdout.strip(), done.returncode) == ("", 0), done.stderr


def test_test_tools_need_neither_pytest_nor_hypothesis():
    done = run(
        "from dj_queue.testing import assert_enqueued, capture_enqueues, drain\n"
        "from dj_queue.testing.spy import no_statements, statements_only_on\n"
    )

    assert done.returncode == 0, done.stderr


def test_the_leak_machine_says_that_it_needs_hypothesis():
    done = run("import dj_queue.testing.leaks")

    assert done.stderr.splitlines()[-1] == (
        "ModuleNotFoundError: expected the package hypothesis, on which dj_queue.testing.leaks "
        "runs, got none: pip install hypothesis"
    )


def test_names_of_the_package_are_those_of_its_modules():
    names = dj_queue.testing.__all__

    assert sorted(dj_queue.testing.MODULES) == names
    assert set(names) <= set(dir(dj_queue.testing))
    assert dj_queue.testing.drain is running.drain
    assert dj_queue.testing.assert_enqueued is enqueued.assert_enqueued
    assert import_module("dj_queue.testing").capture_enqueues is enqueued.capture_enqueues


def test_another_name_is_no_attribute():
    with pytest.raises(AttributeError, match=r"'dj_queue\.testing' has no attribute 'dry'"):
        _ = dj_queue.testing.dry
