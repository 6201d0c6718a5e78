"""Django 5.2's backport, as it is, as it will be and as it may be missing.

Its modules are made up of Django's own here, so that this runs with every Django.
"""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType

import django
import pytest
from django.core.exceptions import ImproperlyConfigured

from dj_queue import compat

OLD = ("InvalidTaskError", "InvalidTaskBackendError")
NEW = ("InvalidTask", "InvalidTaskBackend")


def backport(task_name, backend_name):
    """Give the modules of a backport that calls its exceptions so."""
    values = {
        "": ["task_backends"],
        ".backends": [],
        ".backends.base": ["BaseTaskBackend"],
        ".backends.dummy": ["DummyBackend"],
        ".backends.immediate": ["ImmediateBackend"],
        ".base": ["Task", "TaskContext", "TaskError", "TaskResult", "TaskResultStatus", "task"],
        ".exceptions": ["TaskResultDoesNotExist"],
        ".signals": ["task_enqueued", "task_finished", "task_started"],
    }
    modules = {}
    for name, names in values.items():
        module = modules[f"django_tasks{name}"] = ModuleType(f"django_tasks{name}")
        module.__path__ = []
        for each in names:
            setattr(module, each, getattr(compat, each))
    setattr(modules["django_tasks.exceptions"], task_name, compat.InvalidTask)
    setattr(modules["django_tasks.exceptions"], backend_name, compat.InvalidTaskBackend)
    return modules


@pytest.fixture
def load(monkeypatch):
    """Give a function that loads the module again, on Django 5.2 with these modules."""

    def load(modules):
        monkeypatch.setattr(django, "VERSION", (5, 2, 9, "final", 0))
        for name in [name for name in sys.modules if name.partition(".")[0] == "django_tasks"]:
            monkeypatch.delitem(sys.modules, name)
        for name, module in modules.items():
            monkeypatch.setitem(sys.modules, name, module)
        spec = spec_from_file_location("compat_again", compat.__file__)
        again = module_from_spec(spec)
        spec.loader.exec_module(again)
        return again

    return load


@pytest.mark.parametrize(
    "names", [OLD, NEW, (NEW[0], OLD[1]), (OLD[0], NEW[1])], ids=["0.12", "main", "half", "other"]
)
def test_the_exceptions_are_found_by_either_name(load, names):
    again = load(backport(*names))

    assert again.InvalidTask is compat.InvalidTask
    assert again.InvalidTaskBackend is compat.InvalidTaskBackend


def test_a_missing_backport_is_named_with_what_to_do(load):
    with pytest.raises(ImproperlyConfigured, match="got none: pip install django-tasks"):
        load({"django_tasks": None})


def test_a_backport_that_lacks_a_dependency_is_not_called_missing(load, tmp_path, monkeypatch):
    (tmp_path / "django_tasks.py").write_text("import django_stubs_ext_that_is_not_there")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(ModuleNotFoundError, match="django_stubs_ext_that_is_not_there"):
        load({})


def test_a_backport_of_another_shape_is_not_called_missing(load):
    modules = backport(*NEW)
    del modules["django_tasks.signals"].task_started

    with pytest.raises(ImportError, match="task_started"):
        load(modules)
